import time
from pathlib import Path

import pytest

from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Phase, Progress, Stop
from trainyard.rundir.rank import PROGRESS_INTERVAL_S, Rank


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "logs").mkdir()
    return RunDir(tmp_path)


def test_progress_is_written_now_and_then_and_at_once_on_demand(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    rank, clock = Rank(0, 2, run, None), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    rank.note(now=True)
    assert Progress.read(run) == Progress(Phase.STARTING)
    rank.note(phase=Phase.TRAINING, step=1)
    assert Progress.read(run) == Progress(Phase.STARTING)
    clock[0] += PROGRESS_INTERVAL_S + 0.01
    rank.note(step=2)
    assert Progress.read(run) == Progress(Phase.TRAINING, step=2)
    rank.note(now=True, phase=Phase.DONE)
    assert Progress.read(run) == Progress(Phase.DONE, step=2)


def test_a_field_that_progress_does_not_have_is_an_error(run: RunDir) -> None:
    with pytest.raises(TypeError, match="stepp"):
        Rank(0, 1, run, None).note(stepp=3)


def test_other_ranks_speak_into_their_logs_alone(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    other = Rank(1, 2, run, None)
    other.note(now=True, step=3)
    other.say("mine")
    assert Progress.read(run) == Progress() and not run.console.exists()
    Rank(0, 2, run, None).say("one\ntwo")
    assert run.console.read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "mine\none\ntwo\n"


def test_a_signal_or_the_controller_asks_for_a_stop(run: RunDir) -> None:
    first, second = Rank(0, 2, run, None), Rank(1, 2, run, None)
    assert not first.wants_to_stop()
    Stop("SIGTERM").write(run)
    assert first.wants_to_stop() and not second.wants_to_stop()  # one rank asks the shared file system for all
    second.stop_signalled = "SIGUSR1"
    assert second.wants_to_stop()


def test_the_step_to_resume_from(run: RunDir) -> None:
    assert Rank(0, 1, run, None).resume_step == 0
    assert Rank(0, 1, run, run.checkpoints / "checkpoint-15").resume_step == 15
