"""Sweeps on two CPU ranks, two points at a time: points that fail, sweeps that are killed or stopped and go on."""

import csv
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, clean_env, command
from disturb import Live
from slurm import submit

from trainyard.rundir.directory import RunDir

COUNT_PARTS = """
import os, sys
if "prepare" in sys.orig_argv:
    from trainyard.data.preparation import parts
    make = parts.Parts._make_part
    def counted(self, number):
        with open(os.environ["PARTS_MADE"], "a") as stream:
            stream.write(f"{number}\\n")
        make(self, number)
    parts.Parts._make_part = counted
"""


def sweep(outputs: Path, corpus: Path, *overrides: str) -> list[str]:
    """The command line of a sweep of the tiny model."""
    bash, script, *settings = command(outputs, "none", corpus, "tracking=none", *overrides)
    return [bash, script, "-m", *(item for item in settings if not item.startswith("run.name="))]


def rows(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of results.csv, by point; empty before the file exists."""
    if not (folder / "results.csv").exists():
        return {}
    with (folder / "results.csv").open(newline="") as stream:
        return {row["point"]: row for row in csv.DictReader(stream)}


def kill_all(process: "subprocess.Popen[str]") -> None:
    """Sends SIGKILL to the command and all its descendants."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for member in family:
        member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


@pytest.fixture
def counting(tmp_path: Path) -> dict[str, str]:
    """An environment in which each tokenized part of a corpus adds a line to the file PARTS_MADE."""
    (tmp_path / "inject").mkdir()
    (tmp_path / "inject" / "sitecustomize.py").write_text(COUNT_PARTS)
    return clean_env(PYTHONPATH=str(tmp_path / "inject"), PARTS_MADE=str(tmp_path / "parts"))


@pytest.mark.timeout(600)
def test_a_sweep_that_is_killed_goes_on_where_it_was(corpus: Path, tmp_path: Path, counting: dict[str, str]) -> None:
    outputs, folder = tmp_path / "outputs", tmp_path / "outputs" / "pretrain" / "sweeps" / "both"
    swept = ["trainer.learning_rate=1e-3,1e30", "model.hidden_size=32,64,96", "sweep.name=both"]
    arguments = sweep(outputs, corpus, *swept, "launch.devices_per_job=1", "trainer.max_bad_steps=2")
    log = (tmp_path / "first.log").open("w")
    process = subprocess.Popen(arguments, env=counting, stdout=log, stderr=log, text=True, start_new_session=True)
    at_once = 0
    while sum(row["state"] == "finished" for row in rows(folder).values()) < 2:
        assert process.poll() is None, (tmp_path / "first.log").read_text()
        at_once = max(at_once, sum(row["state"] == "running" for row in rows(folder).values()))
        time.sleep(0.02)
    kill_all(process)
    before = rows(folder)
    finished = [name for name, row in before.items() if row["state"] == "finished"]
    kept = {name: (folder / "logs" / f"{name}.log").read_bytes() for name in finished}
    assert len(finished) >= 2 and any(row["state"] in ("running", "pending") for row in before.values())

    done = subprocess.run(arguments, env=counting, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    after = rows(folder)
    states = {name: row["state"] for name, row in after.items()}
    assert Counter(states.values()) == {"finished": 3, "failed": 3}
    assert all(state == ("failed" if "1e+30" in name else "finished") for name, state in states.items())
    assert {row["model.hidden_size"] for row in after.values()} == {"32", "64", "96"}
    assert all(float(row["eval_loss"]) < 5.6 for row in after.values() if row["state"] == "finished")
    assert {name: (folder / "logs" / f"{name}.log").read_bytes() for name in finished} == kept
    assert at_once == 2
    assert (tmp_path / "parts").read_text().split() == ["0"]
    assert len([path for path in (outputs / "prepared").iterdir() if path.is_dir()]) == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: 3 of 6 points failed: ") and last.endswith(
        "sweep.retry_failed=true tries them again"
    )

    again = subprocess.run(arguments, env=counting, capture_output=True, text=True)
    assert (again.returncode, "sweep both: 0 points to do" in again.stdout) == (1, True)
    assert "best so far: learning_rate=0.001,hidden_size=96" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stop_saves_every_point_and_the_same_command_resumes_them(corpus: Path, tmp_path: Path) -> None:
    outputs, folder = tmp_path / "outputs", tmp_path / "outputs" / "pretrain" / "sweeps" / "seeds"
    slow = ["trainer.max_steps=60", "trainer.eval_steps=1", "trainer.save_steps=100", "sweep.name=seeds"]
    arguments = sweep(outputs, corpus, "run.seed=1,2", *slow, "launch.devices_per_job=1")
    process = subprocess.Popen(arguments, env=clean_env(), stdout=subprocess.PIPE, text=True, start_new_session=True)
    runs = [RunDir(folder / f"seed={seed}") for seed in (1, 2)]
    while not all(run.read_status().get("step", 0) > 0 for run in runs):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75, out
    assert "SIGTERM: the same command goes on with the sweep" in out
    assert {row["state"] for row in rows(folder).values()} == {"preempted"}
    steps = [run.read_status()["step"] for run in runs]
    again = subprocess.run(arguments, env=clean_env(), capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [run.read_status()["resumed_from"] for run in runs] == [[step] for step in steps]
    assert {row["state"] for row in rows(folder).values()} == {"finished"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_task_of_a_job_array_is_one_point_and_requeued_by_itself(corpus: Path, tmp_path: Path) -> None:
    """The second task begins, is preempted and begins again, while the first goes on. slurm.py stands in for Slurm."""
    outputs, folder = tmp_path / "outputs", tmp_path / "outputs" / "pretrain" / "sweeps" / "array"
    longer = ["trainer.max_steps=2000", "trainer.eval_steps=1", "trainer.save_steps=1000", "sweep.name=array"]
    arguments = ["-m", *sweep(outputs, corpus, "run.seed=1,2", "launch.num_devices=1", *longer)[3:]]

    def task(number: int, start: str) -> Live:
        """Submits a task with the ids that Slurm gives it: the last task has the id of the array."""
        own = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "701", "SLURM_JOB_ID": f"70{2 - number}"}
        return submit(tmp_path / f"{start}-{number}", folder / f"seed={number + 1}", *arguments, nodes=1, **own)

    def reached(live: Live) -> int:
        return int(RunDir(live.run).read_status().get("step", 0))

    def stop(live: Live, start: str, number: int, behind: int) -> None:
        live.wait_for(lambda: reached(live) > behind)
        os.kill(int((tmp_path / f"{start}-{number}" / "node-0").read_text()), signal.SIGUSR1)

    other = task(0, "first")
    other.wait_for(lambda: reached(other) > 0)
    step = 0
    for start in ("first", "second"):
        mine = task(1, start)
        stop(mine, start, 1, behind=step)
        done = mine.end()
        assert done.code == 75, done.stdout + done.stderr
        assert other.process.poll() is None
        assert done.status["resumed_from"] == ([step] if step else [])
        step = reached(mine)
    stop(other, "first", 0, behind=0)
    assert other.end().code == 75
    requeued = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/requeued-*"))
    assert requeued == ["first-0/requeued-701_0", "first-1/requeued-701_1", "second-1/requeued-701_1"]
    assert [row["state"] for row in rows(folder).values()] == ["preempted", "preempted"]
    assert len([path for path in (outputs / "prepared").iterdir() if path.is_dir()]) == 1

    none = task(2, "third").end()
    assert none.code == 2 and "SLURM_ARRAY_TASK_ID=2: the points are 0 to 1" in none.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_finds_a_better_learning_rate_than_the_defaults(tmp_path: Path) -> None:
    """Eight short runs of the embedded default, two at a time."""
    short = [f"paths.outputs={tmp_path}", "tracking=none", "trainer.max_steps=60", "trainer.eval_steps=20"]
    script = ["bash", str(ROOT / "launch" / "pretrain.sh")]
    alone = subprocess.run([*script, *short, "run.name=default"], env=clean_env(), capture_output=True, text=True)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    default = RunDir(tmp_path / "pretrain" / "default").read_status()["final"]["eval_loss"]
    rate = "trainer.learning_rate=tag(log, interval(3e-4, 3e-2))"
    search = ["-m", rate, "sweep.search=tpe", "sweep.trials=8", "sweep.name=search", "launch.devices_per_job=1"]
    done = subprocess.run([*script, *short, *search], env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "pretrain" / "sweeps" / "search")
    assert len(found) == 8 and {row["state"] for row in found.values()} <= {"finished", "pruned"}
    assert min(float(row["eval_loss"]) for row in found.values() if row["state"] == "finished") < default
