"""The settings in which runs differ, and the command that trains with the same settings."""

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from trainyard.checks.resolve import resolve
from trainyard.config import overrides as config_overrides
from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.machine.devices import CPU
from trainyard.runs import settings as runs_settings
from trainyard.runs.history import find
from unit.run_dirs import make_run, make_sweep, the_run


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
