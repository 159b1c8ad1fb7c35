"""Signals that ask for a stop: the result does not depend on the process that gets them, nor on the moment."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished
from disturb import SLOW, Faults, Live, Warm, assert_same_run, leftovers, mounted

from trainyard.checkpoint.manifest import verify

TARGETS: dict[str, Callable[[Live], int]] = {
    "the script": lambda live: live.process.pid,
    "deepspeed": lambda live: live.members("bin/deepspeed")[0].pid,
    "deepspeed.launcher.launch": lambda live: live.members("deepspeed.launcher.launch")[0].pid,
    "rank 1": lambda live: live.rank(1),
}


def stopped(live: Live) -> int:
    """The step at which a run stopped on request: with exit code 75, a good checkpoint and no process left."""
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
        pytest.param("the script", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("deepspeed", signal.SIGTERM, marks=pytest.mark.slow),
        ("deepspeed.launcher.launch", signal.SIGINT),
        pytest.param("rank 1", signal.SIGUSR1, marks=pytest.mark.slow),
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


@pytest.mark.faults(case="5", fault="SIGTERM during an evaluation")
def test_an_evaluation_is_left_and_made_up_for(faults: Faults, zero2_run: Finished) -> None:
    """The next start evaluates at the step of the stop, so that no line of metrics is missing."""
    step = stopped(faults.start("stop-evaluating", "trainer.save_steps=100", fault="stop-in-evaluation 1 10"))
    assert step == 10
    (line,) = [
        row for row in Finished(0, "", "", 0, faults.outputs / "pretrain/stop-evaluating").metrics if row["step"] == 10
    ]
    assert "eval_loss" not in line
    resumed = faults.again("stop-evaluating", "trainer.save_steps=100")
    assert_same_run(resumed, zero2_run)
    assert resumed.series("eval_loss") == zero2_run.series("eval_loss")


@pytest.mark.parametrize(
    ("moment", "settings"),
    [
        ("stop-in-forward 1 7", ["deepspeed=zero3", "trainer.per_device_train_batch_size=1"]),
        ("stop-in-save 0 5", ["trainer.save_steps=5"]),
    ],
)
@pytest.mark.slow
@pytest.mark.faults(case="5, 6", fault="SIGTERM in a forward pass with accumulation 4, in a save")
def test_the_weights_are_those_of_the_recorded_step(faults: Faults, moment: str, settings: list[str]) -> None:
    name = moment.replace(" ", "-")
    settings = [*settings, "trainer.logging_steps=3"]
    undisturbed = faults.again(f"{name}-undisturbed", *settings)
    step = stopped(faults.start(name, *settings, fault=moment))
    assert step == int(moment.split()[-1]) + 1
    resumed = faults.again(name, *settings)
    assert resumed.status["resumed_from"] == [step]
    assert_same_run(resumed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [2, 3])
@pytest.mark.faults(case="5", fault="a second and a third signal during a save")
def test_a_second_signal_changes_nothing_and_a_third_ends_at_once(
    faults: Faults, zero2_run: Finished, tmp_path: Path, signals: int
) -> None:
    name, release = f"stop-{signals}-times", tmp_path / "release"
    live = faults.start(name, "trainer.save_steps=5", fault="hold-in-save 0 5", FAULT_HOLD=str(release))
    live.wait_for(release.with_suffix(".begun").exists)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)[:signals]:
        live.process.send_signal(number)
    if signals == 2:
        live.wait_for((live.run / "stop").exists)
        release.touch()
        stopped(live)
    else:
        done = live.end()
        assert done.code == 1 and "stopped without a checkpoint of the last" in done.stderr
        assert leftovers(live.run) == []
    resumed = faults.again(name, "trainer.save_steps=5")
    assert len(resumed.status["resumed_from"]) == 3 - signals
    assert_same_run(resumed, zero2_run)


@pytest.mark.slow
@pytest.mark.faults(case="5", fault="SIGTERM while data workers hold what they have in /dev/shm")
def test_nothing_is_left_in_shared_memory(faults: Faults, tmp_path: Path) -> None:
    """The run has a /dev/shm of its own, whose files are listed after its end."""
    mounted("mount -t tmpfs tmpfs /dev/shm")  # skips the test where mounts are not allowed
    listed = tmp_path / "listed"
    script = (
        f'mount -t tmpfs tmpfs /dev/shm; touch /dev/shm/seen; "$@" || code=$?; ls -A /dev/shm > {listed}; exit $code'
    )
    inside = ["unshare", "--mount", "sh", "-c", script, "sh"]
    stopped(faults.start("stop-shm", "trainer.dataloader_num_workers=2", fault="stop-in-forward 1 7", inside=inside))
    assert listed.read_text().split() == ["seen"]


@pytest.mark.slow
@pytest.mark.faults(case="5", fault="a grace period that holds no save")
def test_a_short_grace_period_is_named_at_the_first_checkpoint(warm: Warm, corpus: Path) -> None:
    done = warm("short-grace", corpus, "launch.grace_period_s=0.01", "trainer.max_steps=3", "trainer.save_steps=1")
    assert done.code == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    (saved, *_) = [number for number, line in enumerate(lines) if "step 1: checkpoint saved in" in line]
    assert "launch.grace_period_s=0.01: that may not be enough for a save" in lines[saved + 1]


@pytest.mark.slow
@pytest.mark.faults(
    case="6", fault="SIGTERM in a forward and a backward pass, just after an update: ZeRO-2, accumulation 4"
)
def test_a_stop_within_a_step_comes_into_force_at_its_end(warm: Warm, corpus: Path) -> None:
    """DeepSpeed steps its optimizer inside the last backward pass; weights and recorded step agree nevertheless."""
    settings = ["trainer.per_device_train_batch_size=1", "trainer.logging_steps=3"]
    undisturbed = warm("accumulated", corpus, *settings)
    for moment in ("stop-in-forward 1 7", "stop-in-backward 0 7", "stop-after-update 1 7"):
        name = f"accumulated-{moment.replace(' ', '-')}"
        stopped = warm(name, corpus, *settings, fault=moment)
        assert stopped.code == 75, stopped.stdout + stopped.stderr
        assert (stopped.status["state"], stopped.status["step"]) == ("preempted", 8)
        assert verify(stopped.run / "checkpoints" / "checkpoint-8") is None
        resumed = warm(name, corpus, *settings)
        assert resumed.status["resumed_from"] == [8]
        assert_same_run(resumed, undisturbed)


@pytest.mark.parametrize("moment", ["starting", pytest.param("preparing", marks=pytest.mark.slow)])
@pytest.mark.faults(case="5", fault="SIGTERM during the preparation, before the first step")
def test_a_stop_before_the_first_step_loses_nothing(faults: Faults, zero2_run: Finished, moment: str) -> None:
    name = f"stop-{moment}"
    fresh = ["tokenizer.vocab_size=500"] if moment == "preparing" else []  # no other test has prepared this data
    live = faults.start(name, *fresh)
    if moment == "preparing":
        live.wait_for(lambda: any("trainyard" in process.cmdline() for process in live.members("prepare")))
    else:
        live.wait_for((live.run / "logs" / "rank-1.pid").exists)
    live.process.send_signal(signal.SIGTERM)
    done = live.end()
    assert done.code == 75, done.stdout + done.stderr
    assert leftovers(live.run) == []
    assert not list((live.run / "checkpoints").glob("*"))
    again = faults.again(name, *fresh)
    assert again.code == 0, again.stderr
    if moment == "starting":
        assert_same_run(again, zero2_run)
