import dataclasses
from pathlib import Path

import pytest

from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.config.saved import load, save
from trainyard.config.training_arguments import given_arguments
from trainyard.errors import ConfigError


def test_config_survives_its_file(tmp_path: Path) -> None:
    config = compose("pretrain", ["data.sources=[{path: 'a b.txt', format: text}]", "model.config={rope_theta: 1e6}"])
    saved.save(config, tmp_path / "config.yaml")
    loaded = saved.load(tmp_path / "config.yaml")
    assert dataclasses.asdict(loaded) == dataclasses.asdict(config)
    assert loaded.data.sources == config.data.sources
    assert given_arguments(loaded.trainer) == given_arguments(config.trainer)


def test_settings_that_were_added_since_have_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    others = "".join(f"{name}: {{}}\n" for name in saved.SECTIONS if name not in ("trainer", "data"))
    trainer = "trainer: {max_steps: 3, an_argument_of_another_version: 1}\n"
    file.write_text(f"stage: pretrain\n{others}{trainer}data: {{sources: []}}\n")
    config = saved.load(file)
    assert (config.trainer.max_steps, config.trainer.max_bad_steps, config.run.seed) == (3, 5, 42)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "stage: sft\ndata: {block_size: 8, blocks: 1, sources: [{path: a, format: text, wight: 1}]}\nwhere: {x: 1}",
            "this version has no setting data.blocks, where, data.sources[0].wight. ",
        ),
        ("run: {seed: 1}", "not the config of a run"),
        ("- a\n- b", "not the config of a run"),
        ("stage: [", "not valid YAML: "),
        ("", "not the config of a run"),
    ],
)
def test_a_file_of_another_version_or_kind_is_named_with_the_way_on(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        saved.load(file)
    (message,) = caught.value.problems
    assert message.startswith(f"{file}: {problem}") and message.endswith("or start over with run.resume=never")


def test_settings_by_their_dotted_names() -> None:
    assert saved.flat({"run": {"seed": 1, "name": None}, "stage": "sft", "model": {"config": {"a": [{}]}}}) == {
        "run.seed": 1, "run.name": None, "stage": "sft", "model.config.a": [{}],
    }  # fmt: skip


def damage(path: Path) -> dict[str, str]:
    """Kinds of damage to a config.yaml, by what the message says of each."""
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    launch = next(number for number, line in enumerate(lines) if line.startswith("launch:"))
    return {
        "not the config of a run": "",
        "it is cut off, without launch": "".join(lines[:launch]),
        "it is cut off.": whole.rstrip("\n"),
        "not valid YAML": whole + "data: [",
        "this version has no setting data.blocks": whole.replace("  block_size:", "  blocks:"),
        "this version has no setting launch": "".join(lines[:launch]) + "launch: 3\n",
        "this version has no setting more": whole + "more: {a: 1}\n",
    }


@pytest.mark.parametrize("number", range(7))
def test_a_damaged_file_is_named_with_the_way_on(tmp_path: Path, number: int) -> None:
    path = tmp_path / "config.yaml"
    save(compose("pretrain", ["run.name=r"]), path)
    assert load(path).run.name == "r"
    reason, content = list(damage(path).items())[number]
    path.write_text(content)
    with pytest.raises(ConfigError) as refused:
        load(path)
    (said,) = refused.value.problems
    assert said.startswith(f"{path}: ") and reason in said and said.endswith("start over with run.resume=never")


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: No such file"):
        load(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        load(tmp_path / "config.yaml")
