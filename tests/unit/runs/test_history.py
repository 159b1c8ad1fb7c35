"""What a run directory tells of its run: state, metrics, settings."""

import math
from pathlib import Path

import pytest

from trainyard.rundir.directory import RunDir
from trainyard.runs import history
from trainyard.runs.history import Run, Value, find
from unit.run_dirs import make_run, the_run


def test_runs_and_points_are_found_newest_first(tmp_path: Path) -> None:
    make_run(tmp_path, "old", day=1)
    make_run(tmp_path, "new", day=9)
    make_run(tmp_path, "old", stage="sft", day=5)
    make_run(tmp_path, "sweeps/lr/a", day=7)
    (tmp_path / "pretrain" / "sweeps" / "lr" / "results.json").write_text("{}")
    (tmp_path / "prepared" / "abc").mkdir(parents=True)
    (tmp_path / "pretrain" / "empty").mkdir()
    assert [run.name for run in find(tmp_path)] == ["pretrain/new", "pretrain/sweeps/lr/a", "sft/old", "pretrain/old"]
    assert [run.name for run in find(tmp_path, "sft")] == ["sft/old"]
    assert [(run.name, run.sweep) for run in find(tmp_path, sweep="lr")] == [("pretrain/sweeps/lr/a", "lr")]
    assert find(tmp_path, sweep="l[r]") == []
    assert find(tmp_path / "nowhere") == []


@pytest.mark.parametrize("state", ["preparing", "running"])
def test_a_run_that_nobody_holds_is_dead(tmp_path: Path, state: str) -> None:
    run = make_run(tmp_path, state=state)
    assert the_run(tmp_path).state == "dead"
    assert run.acquire()
    assert the_run(tmp_path).state == state
    run.release()
    assert the_run(tmp_path).state == "dead"
    assert RunDir(run.path).read_status()["state"] == state  # looking changes nothing


def test_states_that_need_no_process_are_left(tmp_path: Path) -> None:
    for state in ("finished", "failed", "preempted"):
        make_run(tmp_path, state, state=state)
        assert the_run(tmp_path, state).state == state


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, state="running")

    def ends(self: RunDir) -> None:
        run.write_status(run.read_status() | {"state": "finished"})

    monkeypatch.setattr(RunDir, "holder", ends)
    assert history.true_status(run).state == "finished"


def test_last_and_best_pass_over_torn_lines_and_nan(tmp_path: Path) -> None:
    directory = make_run(tmp_path, final=2.0)
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 110, "loss": NaN, "tokens_seen": 5}\n[1]\n{"no": "step"}\n{"step": 120, "lo')
    run = the_run(tmp_path)
    assert run.metric() == "eval_loss"
    assert run.best("eval_loss") == Value(100, run.last("eval_loss") or 0.0, 204_800)
    assert run.best("eval_loss", maximize=True).step == 50
    assert math.isnan(run.last("loss") or 0.0)
    assert run.best("loss").step == 100 and len(run.values("loss")) == 10
    assert run.last("nothing") is None and run.best("nothing") is None
    assert run.hours == 0.5


def test_a_run_without_held_out_text_is_judged_by_its_training_loss(tmp_path: Path) -> None:
    make_run(tmp_path, held_out=False)
    assert the_run(tmp_path).metric() == "loss"


def test_a_directory_with_little_in_it_is_a_run_too(tmp_path: Path) -> None:
    bare = RunDir(tmp_path / "pretrain" / "bare")
    bare.path.mkdir(parents=True)
    bare.status.write_text('{"state": "prep')  # never written so, but a disk may fail
    run = the_run(tmp_path, "bare")
    assert (run.state, run.settings, run.measured("loss"), run.hours) == ("unknown", {}, [], None)
    assert run.updated.year >= 2026


def test_a_run_may_vanish_while_it_is_read(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    run = the_run(tmp_path)
    for file in (directory.status, directory.config, directory.metrics):
        file.unlink()
    fresh = Run(run.path, run.name)
    assert (fresh.state, fresh.measured("loss"), fresh.best("loss"), fresh.settings) == ("unknown", [], None, {})
    assert fresh.updated.year == 1970
