"""What is read out of run directories: state, metrics, which run is meant, and which is best."""

import copy
import fcntl
import math
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard import files
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control.supervisor import Supervisor
from trainyard.errors import STOPPED, DataError
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.runs import choice, history
from trainyard.runs.history import Run, Value, find
from unit.run_dirs import make_run, make_sweep


def the_run(outputs: Path, name: str = "default") -> Run:
    (found,) = (run for run in find(outputs) if run.short == name)
    return found


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
    assert history.true_status(run)["state"] == "finished"


def test_looking_at_the_lock_does_not_keep_a_run_from_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    run.acquire()
    run.release()
    looking = (run.path / ".lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as holder() does, for a moment
    monkeypatch.setattr(files.time, "sleep", lambda seconds: looking.close())
    assert run.acquire()
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    assert not RunDir(run.path).acquire()


def test_metrics_last_and_best(tmp_path: Path) -> None:
    directory = make_run(tmp_path, final=2.0)
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 110, "loss": NaN, "tokens_seen": 5}\n[1]\n{"no": "step"}\n{"step": 120, "lo')
    run = the_run(tmp_path)
    assert run.metric() == "eval_loss"
    assert run.best("eval_loss") == Value(100, run.last("eval_loss") or 0.0, 204_800)
    assert run.best("eval_loss", maximize=True) == Value(0, 8.1, 0)
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


def test_a_name_means_a_run_by_its_end_its_stage_or_its_directory(tmp_path: Path) -> None:
    for stage in ("pretrain", "sft"):
        make_run(tmp_path / "out", "default", stage=stage)
    make_run(tmp_path / "out", "alone")
    make_run(tmp_path / "out", "sweeps/lr/alone")
    elsewhere = make_run(tmp_path / "other", "far")
    runs = find(tmp_path / "out")
    assert choice.named(runs, "alone").name == "pretrain/alone"
    assert choice.named(runs, "lr/alone").name == "pretrain/sweeps/lr/alone"
    assert choice.named(runs, "sft/default").name == "sft/default"
    assert choice.named(runs, str(tmp_path / "out" / "sft" / "default")).name == "sft/default"
    assert choice.named(runs, str(elsewhere.path)).name == "pretrain/far"
    with pytest.raises(DataError, match="is one of pretrain/default, sft/default; say which"):
        choice.named(runs, "default")
    with pytest.raises(DataError, match=r"alnoe: there is no such run\. Did you mean pretrain/alone\?"):
        choice.named(runs, "alnoe")


def test_the_best_run_is_the_one_that_leaves_the_best_model(tmp_path: Path) -> None:
    make_run(tmp_path, "good", final=3.0)
    make_run(tmp_path, "better-but-running", state="failed", final=1.0)
    make_run(tmp_path, "broken", final=math.nan)
    went_back = make_run(tmp_path, "went-back", ["trainer.load_best_model_at_end=true"], final=2.0)
    diverged = make_run(tmp_path, "diverged", final=1.5)
    for directory in (went_back, diverged):
        with directory.metrics.open("a") as stream:
            stream.write('{"step": 101, "eval_loss": 9.0}\n')
    names = [run.short for run, _ in choice.ranked(find(tmp_path), "eval_loss", maximize=False)]
    assert names == ["went-back", "good", "diverged"]
    assert choice.ranked(find(tmp_path), "eval_loss", maximize=True)[0][0].short == "diverged"
    went_back = the_run(tmp_path, "went-back")
    assert went_back.outcome("loss") == went_back.last("loss")
    assert went_back.outcome("eval_loss") == went_back.values("eval_loss")[-2].value


def test_a_sweep_is_judged_by_its_own_metric(tmp_path: Path) -> None:
    make_sweep(tmp_path)
    files.write_json(tmp_path / "pretrain/sweeps/rates/results.json", {"metric": "grad_norm", "maximize": True})
    runs = find(tmp_path, sweep="rates")
    assert choice.criterion(runs, None, False) == ("grad_norm", True)
    assert choice.criterion(runs, "loss", False) == ("loss", False)
    make_run(tmp_path, "beside")
    assert choice.criterion(find(tmp_path), None, False) == ("eval_loss", False)


def test_losses_of_other_text_are_not_compared_without_a_word(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", ["data.block_size=128"])
    both = [the_run(tmp_path, name) for name in "ab"]
    assert "the context differs between these runs" in str(choice.incomparable(both))
    assert choice.incomparable(both[:1]) is None


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


def test_listing_imports_nothing_heavy(tmp_path: Path) -> None:
    make_run(tmp_path)
    heavy = {"torch", "transformers", "matplotlib", "hydra", "omegaconf", "pyarrow", "numpy", "datasets", "numba"}
    code = (
        "import sys; from trainyard import __main__ as entry; "
        f"sys.argv = ['trainyard', 'runs', 'list', '--outputs', {str(tmp_path)!r}]; code = entry.main(); "
        f"print(sorted({heavy} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "pretrain/default" in done.stdout


def test_a_run_may_vanish_while_it_is_read(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    run = the_run(tmp_path)
    for file in (directory.status, directory.config, directory.metrics):
        file.unlink()
    fresh = Run(run.path, run.name)
    assert (fresh.state, fresh.measured("loss"), fresh.best("loss"), fresh.settings) == ("unknown", [], None, {})
    assert fresh.updated.year == 1970
