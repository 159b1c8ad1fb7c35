import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from trainyard.rundir.directory import RunDir
from trainyard.rundir.status import State, Status, StatusFile

OF_0_1 = {
    "command": "bash launch/pretrain.sh",
    "commit": "abc",
    "state": "preempted",
    "exit_code": 75,
    "step": 7,
    "max_steps": 20,
    "world_size": 2,
    "tokens_seen": 3584,
    "restarts": 1,
    "rollbacks": 2,
    "resumed_from": [5],
    "final": {},
    "seconds": 100.0,
    "updated": "2026-01-01T00:00:00+00:00",
}


def test_a_new_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert Status.read(run) == Status()
    file = StatusFile(run, command="c", commit=None, world_size=2)
    assert not run.status.exists()
    file.write()
    written = json.loads(run.status.read_text())
    assert list(written) == [*OF_0_1, "model_step"]
    assert (written["state"], written["exit_code"], written["step"], written["resumed_from"]) == (
        State.PREPARING, None, 0, []
    )  # fmt: skip
    assert datetime.fromisoformat(written["updated"]).utcoffset() is not None
    assert Status.read(run) == file.status


def test_a_further_start_goes_on_counting(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_status(OF_0_1 | {"key_of_another_version": 1})
    file = StatusFile(run, command="again", commit="def", world_size=4)
    status = file.status
    assert (status.step, status.tokens_seen, status.max_steps, status.resumed_from) == (7, 3584, 20, [5])
    assert (status.state, status.exit_code, status.restarts, status.rollbacks) == (State.PREPARING, None, 0, 0)
    assert (status.command, status.commit, status.world_size) == ("again", "def", 4)
    file.write()
    assert 100.0 <= Status.read(run).seconds < 160.0


def test_only_news_is_written(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    file = StatusFile(run)
    file.update(step=0)
    assert not run.status.exists()
    file.update(step=3, final={"loss": 1.0})
    assert (Status.read(run).step, Status.read(run).final) == (3, {"loss": 1.0})


def test_a_wrong_request_leaves_the_status_of_the_earlier_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_status(OF_0_1)
    file = StatusFile(run, command="wrong")
    file.write()
    assert run.read_status() != OF_0_1
    file.restore()
    assert run.read_status() == OF_0_1
    run.status.unlink()
    first = StatusFile(run)
    first.status.state = State.FAILED
    first.restore()
    assert Status.read(run).state == State.FAILED


@pytest.mark.parametrize("wrong", [None, "many", [1], True, math.nan])
def test_a_value_of_the_wrong_type_becomes_the_default(tmp_path: Path, wrong: object) -> None:
    run = RunDir(tmp_path)
    run.write_status(OF_0_1 | {"tokens_seen": wrong, "seconds": wrong, "final": None, "resumed_from": None})
    status = Status.read(run)
    assert (status.tokens_seen, status.seconds, status.final, status.resumed_from) == (0, 0.0, {}, [])
    assert status.step == 7 and f"{status.tokens_seen:,}" == "0"


def test_a_field_that_may_be_unknown_stays_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_status(OF_0_1 | {"exit_code": None, "commit": None, "seconds": 100})
    status = Status.read(run)
    assert (status.exit_code, status.commit, status.seconds, status.world_size) == (None, None, 100, 2)
