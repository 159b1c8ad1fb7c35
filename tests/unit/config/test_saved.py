import dataclasses
from pathlib import Path

import pytest

from trainyard.config import saved
from trainyard.config.compose import compose
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
    file.write_text("stage: pretrain\ntrainer: {max_steps: 3, an_argument_of_another_version: 1}\n")
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
