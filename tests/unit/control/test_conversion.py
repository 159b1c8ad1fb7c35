from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainyard.checkpoint.layout import layout_of
from trainyard.checkpoint.manifest import FileEntry, Manifest
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.control import conversion
from trainyard.control.helper import Outcome
from trainyard.errors import FAILED, STOPPED, Ended
from trainyard.machine.processes import START
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir


class Yard:
    """A run on two ranks that is to go on on four; the helper that converts is replaced."""

    def __init__(self, outputs: Path, monkeypatch: pytest.MonkeyPatch):
        self.config: Config = compose("pretrain", [f"paths.outputs={outputs}", "deepspeed=zero2"])
        self.config.launch.num_devices, self.config.launch.num_nodes = 4, 1
        self.run, self.stop = RunDir(outputs / "r"), StopSignals()
        self.run.logs.mkdir(parents=True)
        self.start = self.run.checkpoints / "checkpoint-5"
        self.start.mkdir(parents=True)
        self.commands: list[list[str]] = []
        self.monkeypatch = monkeypatch

    def written_by(self, ranks: int, size: int = 10) -> None:
        files = {"rank_0_optim_states.pt": FileEntry(size, "0")}
        manifest = Manifest(step=5, world_size=ranks, zero_stage=2, layout=layout_of(self.config), files=files)
        manifest.write(self.start)

    def loadable(self, helper: Callable[..., Outcome] = lambda *_: Outcome(0, "")) -> Path:
        def run_helper(command: list[str], env: dict[str, str], stop: Any, errors: Any) -> Outcome:
            self.commands.append(command)
            return helper(errors)

        self.monkeypatch.setattr(conversion, "run_helper", run_helper)
        return conversion.loadable(self.start, self.config, self.run, {}, self.stop)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    return Yard(tmp_path, monkeypatch)


def test_a_checkpoint_that_fits_is_taken_as_it_is(yard: Yard) -> None:
    yard.written_by(4)
    assert yard.loadable() == yard.start
    assert yard.commands == []


def test_one_of_another_number_of_ranks_is_converted(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.written_by(2)
    target = yard.run.converted / "checkpoint-5"
    assert yard.loadable() == target
    assert yard.commands[0][1:] == [START, "trainyard.checkpoint.convert", str(yard.start), str(target)]
    assert capsys.readouterr().out == (
        "checkpoint-5: written by 2 ranks under ZeRO-2; converting it for 4 ranks under ZeRO-2\n"
    )
    conversion.discard(yard.run)
    assert not yard.run.converted.exists() and yard.start.is_dir()


def test_a_conversion_that_fails_names_its_error_and_the_way_on(yard: Yard) -> None:
    yard.written_by(2)

    def helper(errors: Any) -> Outcome:
        errors.write("Traceback\nValueError: bad\n")
        return Outcome(1, "")

    with pytest.raises(Ended) as caught:
        yard.loadable(helper)
    assert caught.value.code == FAILED
    assert caught.value.message.startswith("the conversion of checkpoint-5 failed: ValueError: bad. See ")
    assert caught.value.message.endswith("Go on with 2 ranks under ZeRO-2, or start over with run.resume=never")


def test_a_stop_during_a_conversion_loses_nothing(yard: Yard) -> None:
    yard.written_by(2)
    yard.stop.count, yard.stop.name = 1, "SIGTERM"
    with pytest.raises(Ended, match="SIGTERM during the conversion; the same command resumes") as caught:
        yard.loadable(lambda *_: Outcome(-15, ""))
    assert caught.value.code == STOPPED


def test_a_conversion_without_room_does_not_begin(yard: Yard) -> None:
    yard.written_by(2, size=1 << 60)
    with pytest.raises(Ended, match="the conversion of checkpoint-5") as caught:
        yard.loadable()
    assert (caught.value.code, yard.commands) == (FAILED, [])
