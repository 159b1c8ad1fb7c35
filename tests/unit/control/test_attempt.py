import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainyard.config.compose import compose
from trainyard.control import attempt as module
from trainyard.control.attempt import Attempt
from trainyard.control.launchers.launch import Launch
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Killed, LastWords, Phase, Progress, RankProcess, Stop


@dataclass
class Fake:
    """A launch that ends with a code when it is over, or when it is ended."""

    look: Callable[[], int | None]
    code_at_end: int = -9
    failed: bool = False
    lost: tuple[str, ...] = ()
    ended: bool = False

    @property
    def code(self) -> int | None:
        return self.code_at_end if self.ended else self.look()

    def own_processes(self) -> list[int]:
        return []

    def end(self) -> None:
        self.ended = True


@dataclass
class Yard:
    """An attempt whose launch is a fake."""

    attempt: Attempt
    run: RunDir
    said: list[str]
    monkeypatch: pytest.MonkeyPatch

    def follow(self, look: Callable[[], int | None], **launch: object) -> float:
        """Follows a launch to its end; seconds that it took."""
        fake: Launch = Fake(look, **launch)  # type: ignore[arg-type]
        self.monkeypatch.setattr(Attempt, "_start", lambda this: fake)
        started = time.monotonic()
        self.attempt.follow(lambda progress: None)
        return time.monotonic() - started


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    for name, value in (("POLL_S", 0.01), ("PEER_GRACE_S", 0.2), ("DUMP_S", 0.0)):
        monkeypatch.setattr(module, name, value)
    run, said = RunDir(tmp_path), list[str]()
    run.logs.mkdir()
    config = compose("pretrain", ["launch.grace_period_s=1", "launch.hang_timeout_s=60"])
    return Yard(Attempt(config, CPU, run, None, StopSignals(), said.append), run, said, monkeypatch)


def test_a_launch_is_followed_to_its_end(yard: Yard) -> None:
    steps = iter([None, None, 0])

    def look() -> int | None:
        Progress(Phase.DONE, step=20).write(yard.run)
        return next(steps, 0)

    yard.follow(look, code_at_end=0)
    assert (yard.attempt.code, yard.attempt.progress.step, yard.attempt.asked) == (0, 20, "")
    assert (yard.attempt.killed, yard.attempt.hung, yard.said) == ([], None, [])


def test_a_rank_that_died_without_a_word_is_named_before_the_others_are_ended(yard: Yard) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = os.uname().nodename
    for process in (RankProcess(0, here, os.getpid()), RankProcess(1, here, dead.pid), RankProcess(2, "else", 1)):
        process.write(yard.run)
    Killed(5).write(yard.run)  # as another node's controller has seen
    assert yard.follow(lambda: None) >= 0.2  # the others may say what they saw
    assert yard.attempt.killed == [1, 5] and yard.attempt.code == -9


def test_a_rank_with_last_words_was_not_killed(yard: Yard) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    RankProcess(1, os.uname().nodename, dead.pid).write(yard.run)
    LastWords(1, "ValueError: bad").write(yard.run)
    yard.follow(lambda: None)
    assert yard.attempt.killed == []


def test_a_node_that_failed_ends_the_launch(yard: Yard) -> None:
    yard.follow(lambda: None, failed=True, lost=("node-b",))
    assert list(yard.attempt.lost) == ["node-b"]


def test_ranks_without_progress_hang(yard: Yard) -> None:
    yard.attempt.config.launch.hang_timeout_s = 0.3
    assert yard.follow(lambda: None) >= 0.3
    assert yard.attempt.hung == 0.3


def test_a_stop_is_passed_on_and_has_a_grace_period(yard: Yard) -> None:
    yard.attempt.stop.count, yard.attempt.stop.name = 1, "SIGTERM"
    assert yard.follow(lambda: None) >= 1.0
    assert Stop.read(yard.run) == Stop("SIGTERM")
    assert yard.said == ["SIGTERM: saving a checkpoint, then stopping (at most 1 s)"]
    assert yard.attempt.asked == "SIGTERM" and yard.attempt.hung is None


def test_a_stop_that_a_rank_has_got_is_one_for_the_run(yard: Yard) -> None:
    Progress(Phase.TRAINING, asked="SIGUSR1").write(yard.run)
    yard.follow(lambda: None)
    assert yard.attempt.asked == "SIGUSR1"


def test_the_third_signal_ends_it_at_once(yard: Yard) -> None:
    yard.attempt.config.launch.grace_period_s = 60
    yard.attempt.stop.count, yard.attempt.stop.name = 3, "SIGINT"
    assert yard.follow(lambda: None) < 30


def test_a_loss_of_nan_is_no_progress(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "read", lambda run: Progress(Phase.TRAINING, step=3, loss=float("nan")))
    yard.attempt.config.launch.hang_timeout_s = 0.3
    deadline = time.monotonic() + 10
    yard.follow(lambda: None if time.monotonic() < deadline else 0)
    assert yard.attempt.hung == 0.3


def test_a_rank_whose_last_words_had_no_room_was_not_killed(yard: Yard) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    RankProcess(1, os.uname().nodename, dead.pid).write(yard.run)
    LastWords.of(yard.run, 1).touch()
    yard.follow(lambda: None)
    assert yard.attempt.killed == [] and yard.attempt.hung is None
