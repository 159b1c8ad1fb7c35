"""Processes that die or hang: the others end, the cause is named, and the run goes on from its newest checkpoint."""

import os
import signal

import psutil
import pytest
from conftest import Finished
from disturb import SLOW, Faults, Live, assert_same_run, leftovers

VICTIMS = {
    "deepspeed": lambda live: live.members("bin/deepspeed")[0].pid,
    "deepspeed.launcher.launch": lambda live: live.members("deepspeed.launcher.launch")[0].pid,
    "rank 0": lambda live: live.rank(0),
    "rank 1": lambda live: live.rank(1),
}


@pytest.mark.parametrize(
    "victim", ["rank 1", *(pytest.param(name, marks=pytest.mark.slow) for name in VICTIMS if name != "rank 1")]
)
@pytest.mark.faults(case="8", fault="SIGKILL of the launcher, its child, either rank")
def test_a_killed_process_costs_the_steps_since_the_checkpoint(
    faults: Faults, zero2_run: Finished, victim: str
) -> None:
    live = faults.start(f"killed-{victim.replace(' ', '-')}", SLOW, "trainer.save_steps=5")
    live.wait_for_step(7)
    assert len(leftovers(live.run)) >= 3  # the launcher and its ranks, which the last line of this test looks for
    os.kill(VICTIMS[victim](live), signal.SIGKILL)
    done = live.end()
    assert_same_run(done, zero2_run)
    assert done.status["restarts"] == 1
    (resumed_from,) = done.status["resumed_from"]
    assert resumed_from >= 5
    assert "restart 1 of 3" in done.stderr
    if victim.startswith("rank"):
        assert f"{victim} died without a message: killed, or out of memory" in done.stderr
    assert leftovers(live.run) == []


@pytest.mark.slow
@pytest.mark.faults(case="8", fault="SIGKILL of the controller")
def test_ranks_do_not_outlive_their_controller(faults: Faults, zero2_run: Finished) -> None:
    live = faults.start("orphaned", SLOW, "trainer.save_steps=5")
    live.wait_for_step(7)
    family = live.members("")
    live.process.kill()
    live.process.wait()
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert leftovers(live.run) == []
    assert_same_run(faults.again("orphaned", SLOW, "trainer.save_steps=5"), zero2_run)


@pytest.mark.faults(case="8", fault="a step that always fails")
def test_a_step_that_fails_twice_is_not_tried_again(faults: Faults) -> None:
    live = faults.start("failing", "trainer.save_steps=5", fault="fail 1 7", once=False)
    done = live.end()
    assert done.code == 1
    assert done.stderr.strip().splitlines()[-1] == "rank 1: RuntimeError: injected"
    assert "restart 1 of 3" in done.stderr and "step 7 has failed twice" in done.stderr
    assert (done.status["state"], done.status["restarts"]) == ("failed", 1)
    assert done.status["resumed_from"] == [5]
    assert leftovers(live.run) == []


@pytest.mark.slow
@pytest.mark.faults(case="15", fault="one rank sleeps for ever")
def test_a_rank_that_hangs_leaves_its_stack_and_the_run_goes_on(faults: Faults, zero2_run: Finished) -> None:
    settings = ["trainer.save_steps=5", "launch.hang_timeout_s=25"]
    live: Live = faults.start("hanging", *settings, fault="hang 1 7")
    done = live.end()
    assert_same_run(done, zero2_run)
    assert "no progress for 25 s" in done.stderr
    stacks = (live.run / "logs" / "rank-1.log").read_text()
    assert "Thread 0x" in stacks and "in hang" in stacks
    assert "in all_reduce" in (live.run / "logs" / "rank-0.log").read_text() or "Thread 0x" in stacks
    assert done.status["restarts"] == 1
