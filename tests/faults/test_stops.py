"""Signals that ask for a stop: to whom they are sent and when makes no difference."""

import os
import signal
from collections.abc import Callable

import pytest
from conftest import Finished
from disturb import SLOW, Faults, Live, assert_same_run, leftovers

from trainyard.checkpoint import verify

TARGETS: dict[str, Callable[[Live], int]] = {
    "the script": lambda live: live.process.pid,
    "deepspeed": lambda live: live.members("bin/deepspeed")[0].pid,
    "deepspeed.launcher.launch": lambda live: live.members("deepspeed.launcher.launch")[0].pid,
    "rank 1": lambda live: live.rank(1),
}


def stopped(live: Live) -> int:
    """The step of a run that was asked to stop while it trained: exit 75, a good checkpoint, nothing else left."""
    done = live.end()
    assert done.code == 75, done.stdout + done.stderr
    step = done.status["step"]
    assert done.status["state"] == "preempted" and 1 <= step < 20
    assert verify(live.run / "checkpoints" / f"checkpoint-{step}") is None
    assert leftovers(live.run) == []
    return int(step)


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("the script", signal.SIGTERM),
        ("deepspeed", signal.SIGTERM),
        ("deepspeed.launcher.launch", signal.SIGINT),
        ("rank 1", signal.SIGUSR1),
    ],
)
@pytest.mark.faults(case="3, 4", fault="a stop signal to the script, the launcher, its child, one rank")
def test_whoever_gets_the_signal_all_ranks_save_at_one_step(
    faults: Faults, zero2_run: Finished, target: str, number: signal.Signals
) -> None:
    name = f"stop-{target.replace(' ', '-')}"
    live = faults.start(name, SLOW, "trainer.save_steps=100")
    live.wait_for_step(3)
    os.kill(TARGETS[target](live), number)
    step = stopped(live)
    resumed = faults.again(name, SLOW, "trainer.save_steps=100")
    assert resumed.status["resumed_from"] == [step]
    assert_same_run(resumed, zero2_run)
