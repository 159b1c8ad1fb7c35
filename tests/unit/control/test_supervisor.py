import copy
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control import supervisor as module
from trainyard.control.supervisor import Supervisor
from trainyard.data.preparation.request import Prepared
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, Ended
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import LastWords, Lead, Phase, Progress
from trainyard.rundir.status import State, Status

Launch = Callable[[RunDir], Progress]


@dataclass
class Fake:
    """In the place of Attempt: each launch does what the next function says, and has the progress that it returns."""

    launches: list[Launch]
    asked: str = ""
    hung: float | None = None
    killed: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    code: int = 1
    leads: list[Lead | None] = field(default_factory=list)

    def __call__(self, config: Any, devices: Any, run_dir: RunDir, checkpoint: Any, stop: Any, say: Any) -> "Fake":
        self.run_dir = run_dir
        return self

    def follow(self, note: Callable[[Progress], None]) -> None:
        self.leads.append(Lead.read(self.run_dir))
        self.progress = self.launches.pop(0)(self.run_dir)
        note(self.progress)


def says(phase: str, step: int | None, **words: Any) -> Launch:
    """A launch that gets to a step; with the last words of rank 0 if there are any."""

    def launch(run_dir: RunDir) -> Progress:
        if words:
            LastWords(0, step=step, **words).write(run_dir)
        return Progress(phase, step=step, max_steps=20)

    return launch


class Yard:
    """A run whose data is prepared and whose launches are fakes."""

    def __init__(self, outputs: Path, monkeypatch: pytest.MonkeyPatch):
        self.monkeypatch = monkeypatch
        self.config = compose("pretrain", [f"paths.outputs={outputs}", "run.name=r", "launch.max_restarts=2"])
        self.config.launch.num_devices = 2
        self.run = RunDir(outputs / "r")
        self.stop = StopSignals()
        assert self.run.acquire()
        monkeypatch.setattr(Supervisor, "_prepare", lambda this: Prepared(outputs / "store", "tokenizer"))
        monkeypatch.setattr(Supervisor, "_settle", lambda this, prepared: None)
        monkeypatch.setattr(module, "BACK_OFF_S", 0.0)

    def launch(self, *launches: Launch, **ended: Any) -> int:
        self.fake = Fake(list(launches), **ended)
        self.monkeypatch.setattr(module, "Attempt", self.fake)
        code = Supervisor(self.config, [], CPU, self.run, self.stop).run()
        assert self.fake.launches == []
        return code

    @property
    def ended(self) -> tuple[str, int | None, int]:
        status = Status.read(self.run)
        return status.state, status.exit_code, status.restarts


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    return Yard(tmp_path, monkeypatch)


def test_a_launch_that_is_done_finishes_the_run(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    assert yard.launch(says(Phase.DONE, 20)) == FINISHED
    assert yard.ended == (State.FINISHED, 0, 0)
    assert capsys.readouterr().out.startswith("r: finished, 20 steps")
    assert yard.fake.leads == [Lead(str(yard.run.holder()), 1)]


def test_a_launch_that_stopped_can_be_resumed(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    assert yard.launch(says(Phase.STOPPED, 7), asked="SIGTERM") == STOPPED == 75
    assert yard.ended == (State.PREEMPTED, 75, 0)
    assert capsys.readouterr().out == "stopped at step 7; the same command resumes\n"


def test_a_stop_before_the_first_step_loses_nothing(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    assert yard.launch(says(Phase.STARTING, None), asked="SIGTERM") == STOPPED
    assert capsys.readouterr().out == "stopped; nothing was lost, the same command resumes\n"


def test_a_stop_without_a_checkpoint_is_a_failure(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    assert yard.launch(says(Phase.SAVING, 7), asked="SIGTERM") == FAILED
    assert yard.ended == (State.FAILED, 1, 0)
    assert capsys.readouterr().err == (
        "stopped without a checkpoint of the last 7 steps; the same command resumes from step 0\n"
    )


def test_a_failure_is_tried_again(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    crash = says(Phase.TRAINING, 7, error="RuntimeError: bus")
    assert yard.launch(crash, says(Phase.DONE, 20)) == FINISHED
    assert yard.ended == (State.FINISHED, 0, 1)
    assert capsys.readouterr().err == "rank 0: RuntimeError: bus; restart 1 of 2 in 0 s\n"
    assert [lead.attempt for lead in yard.fake.leads if lead] == [1, 2]


def test_a_failure_at_the_same_step_ends_the_run(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    crash = says(Phase.TRAINING, 7, error="RuntimeError: bus", traceback="the stack", log="rank-0.log")
    assert yard.launch(crash, crash) == FAILED
    assert yard.ended == (State.FAILED, 1, 1)
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == [
        "step 7 has failed twice; not tried again",
        "the stack",
        "rank 0 failed first; its log is rank-0.log",
        "rank 0: RuntimeError: bus",
    ]


def test_restarts_are_limited_and_some_errors_get_none(yard: Yard) -> None:
    assert yard.launch(*(says(Phase.TRAINING, step, error="RuntimeError: bus") for step in (5, 6, 7))) == FAILED
    assert yard.ended == (State.FAILED, 1, 2)
    assert yard.launch(says(Phase.TRAINING, 5, error="FinalError: NaN", final=True)) == FAILED
    assert yard.ended == (State.FAILED, 1, 0)


def test_a_rollback_is_no_failure(yard: Yard) -> None:
    spike = says(Phase.TRAINING, 7, error="RollbackError: ", rollback=True)
    assert yard.launch(spike, spike, spike, spike, says(Phase.DONE, 20)) == FINISHED
    assert yard.ended == (State.FINISHED, 0, 0)
    assert Status.read(yard.run).rollbacks == 4


def test_a_signal_before_the_launch(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.stop.count, yard.stop.name = 1, "SIGUSR1"
    assert yard.launch() == STOPPED
    assert capsys.readouterr().out == "SIGUSR1 before the start; the same command resumes\n"


@pytest.mark.parametrize("code", [FINISHED, FAILED, WRONG, STOPPED])
def test_every_end_has_its_code_and_its_state(
    yard: Yard, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(this: Supervisor) -> Prepared:
        raise Ended(code, "last words")

    monkeypatch.setattr(Supervisor, "_prepare", end)
    assert yard.launch() == code
    state = {FINISHED: State.FINISHED, STOPPED: State.PREEMPTED}.get(code, State.FAILED)
    assert yard.ended == (state, code, 0)
    printed = capsys.readouterr()
    assert (printed.err if code in (FAILED, WRONG) else printed.out) == "last words\n"


def test_a_wrong_request_leaves_the_status_of_the_run(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.launch(says(Phase.STOPPED, 7), asked="SIGTERM")
    before = yard.run.status.read_bytes()

    def end(this: Supervisor) -> Prepared:
        raise Ended(WRONG)

    monkeypatch.setattr(Supervisor, "_prepare", end)
    assert yard.launch() == WRONG
    assert yard.run.status.read_bytes() == before


def test_a_run_directory_that_cannot_be_written(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.run.logs.write_text("a file where a directory must be")
    assert yard.launch() == FAILED
    assert capsys.readouterr().err.startswith(f"run directory {yard.run.path}: ")


def test_starting_over_keeps_the_earlier_run_aside(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.launch(says(Phase.STOPPED, 7), asked="SIGTERM")
    yard.config.run.resume = "never"
    assert yard.launch(says(Phase.DONE, 20)) == FINISHED
    aside = yard.run.path.with_name("r.1")
    assert Status.read(RunDir(aside)).state == State.PREEMPTED
    assert yard.run.holder() is not None and RunDir(aside).holder() is None
    assert "run.resume=never: the earlier run is kept in r.1\n" in capsys.readouterr().out


def test_the_supervisor_keeps_command_seconds_and_time(tmp_path: Path, corpus: Path) -> None:
    overrides = [f"paths.outputs={tmp_path}", "run.name=r", f"data.sources=[{{path: '{corpus}', format: jsonl}}]"]
    config = compose("pretrain", overrides)
    resolve(config, overrides, CPU, {})
    run = RunDir(tmp_path / "pretrain" / "r")
    run.path.mkdir(parents=True)
    run.write_status({"seconds": 1000.0})  # of earlier starts
    stop = StopSignals()
    stop.count, stop.name = 1, "SIGTERM"  # before its preparation has begun
    assert Supervisor(copy.deepcopy(config), [*overrides, "++tracking.api_key=abc"], CPU, run, stop).run() == STOPPED
    status = run.read_status()
    assert 1000.0 < status["seconds"] < 1500.0
    assert datetime.fromisoformat(status["updated"]).tzinfo is not None
    assert shlex.split(status["command"]) == ["bash", "launch/pretrain.sh", *overrides, "++tracking.api_key=***"]
    assert "abc" not in run.status.read_text()
    seconds = status["seconds"]
    Supervisor(config, overrides, CPU, run, stop).run()
    assert run.read_status()["seconds"] >= seconds
