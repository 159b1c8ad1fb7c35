"""The command of a stage: what it runs itself, and what it leaves to Hydra."""

import sys
from collections.abc import Callable, Sequence

import pytest

from trainyard.commands import train
from trainyard.config import local
from trainyard.config.schema import Config
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, ConfigError
from trainyard.machine.signals import StopSignals

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
