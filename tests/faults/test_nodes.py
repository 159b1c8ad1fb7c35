"""One launch on each of two nodes, as Slurm does it; both nodes are this machine, with one rank each."""

import os
import signal
from pathlib import Path

import pytest
from conftest import Finished, settings
from disturb import SLOW, Faults, Live, assert_same_run, leftovers
from slurm import submit


def submit_one(stand_in: Path, outputs: Path, corpus: Path, name: str, *overrides: str) -> Live:
    """Submits a run on two nodes with one rank each."""
    arguments = settings(outputs, name, corpus, "launch.num_devices=1", *overrides)
    return submit(stand_in, outputs / "pretrain" / name, *arguments)


@pytest.mark.faults(case="4", fault="SIGUSR1 by Slurm to a further node, whose rank alone hears of it")
def test_a_job_on_two_nodes_is_requeued_and_goes_on(
    zero2_run: Finished, outputs: Path, corpus: Path, tmp_path: Path
) -> None:
    live = submit_one(tmp_path / "one", outputs, corpus, "job", SLOW, "trainer.save_steps=100")
    live.wait_for_step(3)
    os.kill(int((tmp_path / "one" / "node-1").read_text()), signal.SIGUSR1)
    done = live.end()
    assert done.code == 75, done.stdout + done.stderr
    assert "SIGUSR1: saving a checkpoint" in done.stdout
    step = done.status["step"]
    assert list((tmp_path / "one").glob("requeued-*"))
    assert leftovers(live.run) == []

    again = submit_one(tmp_path / "two", outputs, corpus, "job", SLOW, "trainer.save_steps=100").end()
    assert again.code == 0, again.stdout + again.stderr
    assert not list((tmp_path / "two").glob("requeued-*"))
    assert (again.status["resumed_from"], again.status["world_size"]) == ([step], 2)
    assert_same_run(again, zero2_run)


@pytest.mark.slow
@pytest.mark.faults(case="8", fault="SIGKILL of a rank on a further node")
def test_a_failure_on_one_node_is_met_by_all(zero2_run: Finished, outputs: Path, corpus: Path, tmp_path: Path) -> None:
    live = submit_one(tmp_path / "one", outputs, corpus, "job-killed", SLOW, "trainer.save_steps=5")
    live.wait_for_step(7)
    os.kill(live.rank(1), signal.SIGKILL)
    done = live.end()
    assert "node 1: launch 2 from checkpoint-" in done.stdout
    assert done.status["restarts"] == 1
    assert_same_run(done, zero2_run)
    assert leftovers(live.run) == []


@pytest.mark.faults(case="8", fault="a node of the hostfile that cannot be reached")
def test_a_node_that_cannot_be_reached_is_named(faults: Faults, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("nowhere.invalid slots=2\n")
    done = faults.again("unreachable", f"launch.hostfile={hostfile}")
    assert done.code == 1
    assert "ssh: Could not resolve hostname nowhere.invalid" in done.stderr
    assert "the start has failed twice; not tried again" in done.stderr
    assert "nowhere.invalid is gone, or ssh does not get through" in done.stderr.splitlines()[-1]
    assert leftovers(done.run) == []
