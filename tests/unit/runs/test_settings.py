"""In which settings runs differ, and the command that tells them again."""

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.checks.resolve import resolve
from trainyard.config import overrides as config_overrides
from trainyard.config import saved, secrets
from trainyard.config.compose import compose
from trainyard.machine.devices import CPU
from trainyard.runs import settings as runs_settings
from trainyard.runs.history import Run, find
from unit.run_dirs import make_run, make_sweep


def the_run(outputs: Path, name: str = "default") -> Run:
    (found,) = (run for run in find(outputs) if run.short == name)
    return found


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", ["trainer.learning_rate=1e-4", "deepspeed=zero3"])
    differing = runs_settings.differing([the_run(tmp_path, name) for name in "ab"])
    assert differing == {"trainer.learning_rate": [1.5e-3, 1e-4], "deepspeed.config": ["zero2", "zero3"]}
    assert runs_settings.differing([the_run(tmp_path, "a")] * 2) == {}


def test_settings_that_are_not_the_stages_defaults(tmp_path: Path) -> None:
    make_run(tmp_path, "plain")
    make_run(tmp_path, "other", ["trainer.learning_rate=1e-4", "data.packing=best_fit", "launch.num_devices=4"])
    assert runs_settings.changed(the_run(tmp_path, "plain")) == {}
    changed = runs_settings.changed(the_run(tmp_path, "other"))
    assert changed["trainer.learning_rate"] == (1.5e-3, 1e-4)
    assert set(changed) == {"trainer.learning_rate", "data.packing"}


SETTINGS = ["trainer.learning_rate=1e-05", "model.path=some/model", "data.sources=[{path: 'a b/*.txt', format: text}]"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_command_trains_with_the_same_settings(tmp_path: Path, kept: bool) -> None:
    given = [*SETTINGS, "data.packing=best_fit", "model.config={rope_theta: 1e6}"]
    words = [*given, "run.name=first", "run.resume=never"]
    command = {"command": config_overrides.command("pretrain", words) if kept else None}
    make_run(tmp_path, "first", given, **command)
    told, secret = runs_settings.again(the_run(tmp_path, "first"))
    program, script, *overrides = shlex.split(told)
    assert (program, script, secret) == ("bash", "launch/pretrain.sh", [])
    if kept:
        assert overrides == given
    config = compose("pretrain", overrides)
    config.paths.outputs = str(tmp_path)
    resolve(config, overrides, CPU, {})
    resolved = saved.load(tmp_path / "pretrain" / "first" / "config.yaml")
    resolved.run.name = config.run.name
    assert asdict(config) == asdict(resolved)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), inner),
    max_leaves=8,
)


def without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_hydra_reads_what_is_spelled(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(f"key={config_overrides.spelled(value)}").value()
    assert repr(_plain(read)) == repr(without_none(value))


def _plain(value: object) -> object:
    """Without Hydra's marks of how a text was quoted."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("trainer.learning_rate=1e-3", "trainer.learning_rate=1e-3"),
        ("++tracking.api_key=abc", "++tracking.api_key=***"),
        ("+password=abc", "+password=***"),
        ("trainer.hub_token=", "trainer.hub_token="),
        ("model.config={a: 1, 'hub_token': abc}", "model.config=***"),
        ("tokenizer.add_tokens=['<|q|>']", "tokenizer.add_tokens=['<|q|>']"),
        (
            "data.sources=[{path: 'https://host/a', format: text}]",
            "data.sources=[{path: 'https://host/a', format: text}]",
        ),
        ("~experiment", "~experiment"),
    ],
)
def test_secrets_of_a_command_are_masked(override: str, kept: str) -> None:
    assert secrets.masked(override) == kept
    assert shlex.split(config_overrides.command("sft", [override])) == ["bash", "launch/sft.sh", kept]


def test_a_command_lacks_its_secrets_and_says_so(tmp_path: Path) -> None:
    given = ["trainer.learning_rate=1e-3", "++tracking.api_key=abc"]
    make_run(tmp_path, command=config_overrides.command("pretrain", given))
    command = "bash launch/pretrain.sh trainer.learning_rate=1e-3"
    assert runs_settings.again(the_run(tmp_path)) == (command, ["++tracking.api_key"])


def test_the_swept_settings_come_from_the_commands(tmp_path: Path) -> None:
    make_sweep(tmp_path)
    swept = runs_settings.swept(find(tmp_path, sweep="rates"))
    assert set(swept) == {"trainer.learning_rate", "model.hidden_size"}
    assert sorted(set(swept["trainer.learning_rate"])) == [1e-4, 3e-4, 1e-3, 1e-2]
    make_run(tmp_path, "sweeps/stages/a", ["deepspeed=zero2"])
    make_run(tmp_path, "sweeps/stages/b", ["deepspeed=zero3"])
    assert sorted(runs_settings.swept(find(tmp_path, sweep="stages"))["deepspeed"]) == ["zero2", "zero3"]
