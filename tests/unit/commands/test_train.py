"""The command of a stage: what it runs itself, and what it leaves to Hydra."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainyard.commands import train
from trainyard.config import local
from trainyard.config.compose import compose
from trainyard.config.overrides import default_name
from trainyard.config.schema import Config
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, ConfigError
from trainyard.machine.signals import StopSignals
from trainyard.sweeps import grid
from trainyard.sweeps.grid import Grid

Call = Callable[..., int]


class Runs:
    """Stands in for the run of a composed config: notes the overrides and returns the codes one by one."""

    def __init__(self, *codes: int):
        self.codes, self.seen = list(codes), list[tuple[Config, list[str]]]()

    def __call__(self, config: Config, overrides: Sequence[str], stop: StopSignals) -> int:
        self.seen.append((config, list(overrides)))
        return self.codes.pop(0)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def call(runs: Runs, *arguments: str) -> int:
        monkeypatch.setattr(train, "run", runs)
        monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
        return train.main("pretrain", arguments, StopSignals())

    return call


@pytest.mark.parametrize("code", [FINISHED, FAILED, WRONG, STOPPED])
def test_the_exit_code_is_that_of_the_run(call: Call, code: int) -> None:
    runs = Runs(code)
    assert call(runs, "trainer.max_steps=3", "model.path=x") == code
    ((config, overrides),) = runs.seen
    assert config.trainer.max_steps == 3
    assert overrides == ["model=from_path", "trainer.max_steps=3", "model.path=x"]


def test_mistakes_in_settings_and_values_are_reported_together(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs()
    assert call(runs, "trainer.lerning_rate=1", "data.packing=tight") == WRONG
    first, second = capsys.readouterr().err.splitlines()
    assert "Did you mean trainer.learning_rate?" in first
    assert second == "error: data.packing=tight: must be one of concat, best_fit, padded"
    assert runs.seen == []


@pytest.mark.parametrize(
    "arguments", [["--cfg", "job", "trainer.max_steps=3"], ["trainer.max_steps=3", "--cfg", "job"]]
)
def test_hydras_options_stand_before_or_behind_overrides(
    call: Call, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs()
    assert call(runs, *arguments, "model.path=x") == FINISHED
    printed = capsys.readouterr().out
    assert "max_steps: 3" in printed and "path: x" in printed
    assert runs.seen == []


def test_a_wrong_option_is_a_mistake(call: Call) -> None:
    assert call(Runs(), "--colour", "red") == WRONG


def test_settings_of_this_machine_are_no_part_of_the_command(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("machine") / "local.yaml"
    file.write_text("launch: {max_restarts: 7}")
    monkeypatch.setenv(local.VARIABLE, str(file))
    sweeper = ["-m", "hydra/launcher=basic", "trainer.max_steps=3,4"]
    for arguments, count in (["trainer.max_steps=3"], 1), (sweeper, 2):
        runs = Runs(*[FINISHED] * count)
        assert call(runs, *arguments) == FINISHED
        assert [overrides for _, overrides in runs.seen] == [[f"trainer.max_steps={3 + n}"] for n in range(count)]
        assert {config.launch.max_restarts for config, _ in runs.seen} == {7}
    runs = Runs(FAILED, STOPPED)
    assert call(runs, *sweeper) == STOPPED


def test_a_job_of_hydras_that_cannot_be_read_is_refused_and_the_next_one_starts(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unreadable(Runs):
        def __call__(self, config: Config, overrides: Sequence[str], stop: StopSignals) -> int:
            if super().__call__(config, overrides, stop) == WRONG:
                raise ConfigError(["config.yaml: not valid YAML", "and more"])
            return FINISHED

    runs = Unreadable(WRONG, FINISHED)
    assert call(runs, "-m", "hydra/launcher=basic", "trainer.max_steps=3,4") == WRONG
    assert len(runs.seen) == 2
    assert capsys.readouterr().err.splitlines() == ["error: config.yaml: not valid YAML", "error: and more"]


@pytest.mark.parametrize("place", range(3))
def test_an_option_stands_anywhere_and_what_is_implied_is_not_between(call: Call, place: int, capsys: Any) -> None:
    words = ["trainer.num_train_epochs=2", "model.path=x"]
    words[place:place] = ["--cfg", "job", "--resolve"]
    assert call(Runs(), *words) == FINISHED
    printed = capsys.readouterr().out
    assert "path: x" in printed and "max_steps: -1" in printed and "hidden_size: null" in printed


def test_an_option_that_prints_says_what_is_wrong_with_the_settings(call: Call, capsys: Any) -> None:
    assert call(Runs(), "--cfg", "job", "run.name=中文", "+foo=1") == WRONG
    assert capsys.readouterr().err.splitlines() == [
        "error: run.name=中文: Hydra reads such text in quotes only; write 'run.name=\"中文\"'",
        "error: +foo=1: there is no setting foo. --help lists the settings",
    ]
    assert call(Runs(FINISHED), "--run", "trainer.max_steps=3") == FINISHED


def test_a_folder_of_recipes_reaches_all_that_the_command_starts(call: Call, tmp_path: Path) -> None:
    """It is part of the overrides, which a preparation and each point of a sweep are given."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer: {max_steps: 7}\n")
    searched = f"hydra.searchpath=['file://{tmp_path}']"
    runs = Runs(FINISHED, FINISHED)
    for option in (["--config-dir", str(tmp_path)], [f"-cd={tmp_path}"]):
        assert call(runs, *option, "experiment=mine") == FINISHED
    assert [(config.trainer.max_steps, overrides) for config, overrides in runs.seen] == [
        (7, [searched, "experiment=mine"])
    ] * 2
    request = grid.read("pretrain", train.divide(["--config-dir", str(tmp_path), "experiment=mine", "run.seed=1,2"])[0])
    points = Grid(request).points
    assert [point.overrides for point in points] == [(searched, "experiment=mine", f"run.seed={n}") for n in (1, 2)]
    assert compose("pretrain", points[0].overrides).trainer.max_steps == 7
    assert default_name([searched, "experiment=mine"]) == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-dir", "/nowhere"], "--config-dir /nowhere: there is no such directory; name one with groups as"),
        (["experiment=mine", "--config-dir"], "--config-dir : there is no such directory"),
        (["-m", "hydra/launcher=joblib", "run.seed=1,2"], "hydra/launcher=joblib: exit codes and stop signals of its"),
        (["-m", "hydra/sweeper=ax", "run.seed=1,2"], "hydra/sweeper=ax: exit codes and stop signals of its jobs"),
    ],
)
def test_what_does_not_work_is_said(call: Call, arguments: list[str], message: str, capsys: Any) -> None:
    assert call(Runs(), *arguments) == WRONG
    assert capsys.readouterr().err.startswith(f"error: {message}")
