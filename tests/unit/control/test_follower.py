from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from trainyard.config.compose import compose
from trainyard.control import follower as module
from trainyard.control.follower import Follower
from trainyard.errors import FAILED, STOPPED
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Lead
from trainyard.rundir.status import Status


class Fake:
    """In the place of Attempt: notes what it was started with, and does something before it ends."""

    started: ClassVar[list[Path | None]] = []
    then: ClassVar[Callable[[RunDir], None]]

    def __init__(self, config: Any, devices: Any, run_dir: RunDir, checkpoint: Path | None, *_: Any, leads: bool):
        assert not leads
        self.run_dir = run_dir
        self.started.append(checkpoint)

    def follow(self, note: Any, over: Callable[[], bool]) -> None:
        assert not over()
        type(self).then(self.run_dir)
        assert over()


@pytest.fixture
def leader(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    assert run.acquire()
    return run


@pytest.fixture
def follower(leader: RunDir, monkeypatch: pytest.MonkeyPatch) -> Follower:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "Attempt", Fake)
    monkeypatch.setattr(Fake, "started", [])
    config = compose("pretrain", ["launch.node_rank=1"])
    return Follower(config, CPU, RunDir(leader.path), StopSignals())


def test_a_node_launches_what_the_first_one_launches(
    leader: RunDir, follower: Follower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(leader.holder())

    def then(run_dir: RunDir) -> None:
        if len(Fake.started) == 1:
            Lead(name, 2, str(run_dir.checkpoints / "checkpoint-5")).write(run_dir)
        else:
            leader.write_status({"exit_code": 75})
            leader.release()

    monkeypatch.setattr(Fake, "then", staticmethod(then), raising=False)
    Lead(name, 1).write(leader)
    assert follower.run() == 75
    assert Fake.started == [None, leader.checkpoints / "checkpoint-5"]
    assert capsys.readouterr().out == "node 1: launch 1 from the start\nnode 1: launch 2 from checkpoint-5\n"


def test_what_an_earlier_leader_wrote_is_not_launched(
    leader: RunDir, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lead("pid 1 on elsewhere", 3).write(leader)
    looks = iter([str(leader.holder())] * 5)
    monkeypatch.setattr(RunDir, "holder", lambda this: next(looks, None))
    leader.write_status({"exit_code": 1})
    assert follower.run() == FAILED
    assert Fake.started == []


def test_a_leader_that_dies_leaves_no_code(
    leader: RunDir, follower: Follower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Fake, "then", staticmethod(lambda run_dir: leader.release()), raising=False)
    Lead(str(leader.holder()), 1).write(leader)
    leader.write_status({"exit_code": None})
    assert Status.read(leader).exit_code is None
    assert follower.run() == FAILED
    assert "it has died; start all nodes again" in capsys.readouterr().out


def test_a_run_that_nobody_leads(
    leader: RunDir, follower: Follower, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leader.release()
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    assert follower.run() == FAILED
    assert "it has not begun; start it with launch.node_rank=0" in capsys.readouterr().out
    follower.stop.count = 1
    assert follower.run() == STOPPED
