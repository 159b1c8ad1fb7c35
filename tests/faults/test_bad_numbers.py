"""Bad losses, gradients and weights: no rank applies them, and none of them is ever saved."""

import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Finished, Pretrain
from disturb import Faults, Warm, assert_same_run
from safetensors.torch import load_file

from trainyard.checkpoint.manifest import verify

SETTINGS = ["trainer.save_steps=5", "launch.max_restarts=0"]
ACCUMULATED = ["trainer.per_device_train_batch_size=1"]
"""Four micro batches per step, instead of two."""


def assert_same_but_for(done: Finished, reference: Finished, *bad: int) -> None:
    """Asserts that a run equals one whose optimizer did nothing in the bad steps: in its weights, and elsewhere in its
    losses and learning rates."""
    assert done.code == reference.code == 0, done.stdout + done.stderr
    for name, tensor in reference.weights.items():
        assert torch.equal(tensor, done.weights[name]), name
    rows = {row["step"]: row for row in done.metrics if "loss" in row}
    assert sorted(rows) == [step for step in range(1, 21) if step not in bad]
    for row in reference.metrics:
        if row["step"] in rows:
            mine = rows[row["step"]]
            assert (mine["loss"], mine["learning_rate"]) == (row["loss"], row["learning_rate"])
            assert mine.get("bad_steps") == (sum(step < row["step"] for step in bad) or None)
    assert "NaN" not in (done.run / "metrics.jsonl").read_text()
    assert "Infinity" not in (done.run / "metrics.jsonl").read_text()


def assert_finite(checkpoint: Path) -> None:
    """Asserts that a checkpoint is whole, and that its weights are finite."""
    assert verify(checkpoint) is None
    weights = load_file(checkpoint / "model.safetensors")
    assert len(weights) > 10 and all(tensor.isfinite().all() for tensor in weights.values())


def assert_clean(run: Path, *steps: int) -> None:
    """Asserts that exactly these checkpoints exist, whole and finite."""
    found = list((run / "checkpoints").iterdir())
    assert sorted(path.name for path in found) == sorted(f"checkpoint-{step}" for step in steps)
    for path in found:
        assert_finite(path)


BACKENDS = {
    "zero2": ["deepspeed=zero2"],
    "zero3": ["deepspeed=zero3"],
    "ddp": ["deepspeed=none"],
    "zero2-accumulated": ["deepspeed=zero2", *ACCUMULATED],
    "zero3-accumulated": ["deepspeed=zero3", *ACCUMULATED],
    "ddp-accumulated": ["deepspeed=none", *ACCUMULATED],
    "zero1": ["deepspeed=zero1", *ACCUMULATED],
    "zero1-bf16": ["deepspeed=zero1", "trainer.bf16=true", *ACCUMULATED],
    "zero2-bf16": ["deepspeed=zero2", "trainer.bf16=true"],
    "zero3-bf16": ["deepspeed=zero3", "trainer.bf16=true"],
    "ddp-bf16": ["deepspeed=none", "trainer.bf16=true"],
}


@pytest.fixture(scope="module")
def idle(corpus: Path, warm: Warm) -> Callable[..., Finished]:
    """Runs of which AdamW does nothing in step 7, on any rank: one for each backend, for all faults."""

    @functools.cache
    def run(backend: str, *settings: str) -> Finished:
        return warm(f"idle-{backend}", corpus, *settings, fault="idle-optimizer 0 6")

    return run


@pytest.mark.parametrize("fault", ["nan-loss", pytest.param("inf-gradient", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=[] if name == "zero2" else pytest.mark.slow) for name in BACKENDS]
)
@pytest.mark.faults(case="14", fault="NaN loss, infinite gradient on one rank once")
def test_a_bad_step_is_skipped_on_all_ranks(
    warm: Warm, corpus: Path, tmp_path: Path, idle: Callable[..., Finished], backend: str, fault: str
) -> None:
    settings, once = BACKENDS[backend], str(tmp_path / "once")
    done = warm(f"{fault}-{backend}", corpus, *settings, fault=f"{fault} 1 6", FAULT_ONCE=once)
    assert_same_but_for(done, idle(backend, *settings), 7)
    (line,) = [line for line in done.stdout.splitlines() if "skipped on all ranks" in line]
    told = {"nan-loss": "the loss is nan on rank 1", "inf-gradient": "the gradient is not finite, samples 48 to 55"}
    assert line.startswith(f"step 7: {told[fault]}") and "(documents " in line


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["none", "zero2", "zero3"])
@pytest.mark.faults(case="14", fault="infinite gradient without clipping")
def test_a_gradient_is_looked_at_where_none_is_clipped(
    warm: Warm, corpus: Path, idle: Callable[..., Finished], backend: str
) -> None:
    settings = [f"deepspeed={backend}", "trainer.max_grad_norm=0"]
    done = warm(f"unclipped-{backend}", corpus, *settings, fault="inf-gradient 1 6")
    assert_same_but_for(done, idle(f"unclipped-{backend}", *settings), 7)


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="NaN loss under an optimizer and a schedule of DeepSpeed's own")
def test_deepspeeds_own_schedule_goes_on_too(
    warm: Warm, corpus: Path, idle: Callable[..., Finished], tmp_path: Path
) -> None:
    values = json.loads((ROOT / "ds_configs" / "zero2.json").read_text())
    adamw = {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto", "torch_adam": True}
    warmup = dict.fromkeys(("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"), "auto")
    values |= {"optimizer": {"type": "AdamW", "params": adamw}}
    values |= {"scheduler": {"type": "WarmupDecayLR", "params": warmup}}
    (tmp_path / "own.json").write_text(json.dumps(values))
    settings = [f"deepspeed.config={tmp_path / 'own.json'}", "trainer.lr_scheduler_type=linear"]
    done = warm("own-schedule", corpus, *settings, fault="nan-loss 1 6")
    reference = idle("own-schedule", *settings)
    assert len(set(reference.series("learning_rate"))) > 10
    assert_same_but_for(done, reference, 7)


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="NaN loss on one rank, three steps of four, a save falling due; SIGKILL")
def test_a_save_waits_for_a_good_step_and_the_mean_for_its_own(faults: Faults) -> None:
    settings = ["trainer.save_steps=10", "trainer.logging_steps=5"]
    done = faults.start("waiting", *settings, fault="nan-loss 0 8-10", once=False).end()
    assert done.code == 0, done.stdout + done.stderr
    assert_clean(done.run, 12, 20)
    assert done.status["final"]["bad_steps"] == 3
    single = faults.start("waiting-single", "trainer.save_steps=10", fault="nan-loss 0 8-10", once=False).end()
    losses = dict(zip([row["step"] for row in single.metrics if "loss" in row], single.series("loss"), strict=True))
    for row in done.metrics:
        if "loss" in row:
            within = [losses[step] for step in range(row["step"] - 4, row["step"] + 1) if step in losses]
            assert row["loss"] == pytest.approx(sum(within) / len(within), rel=1e-6)
    assert sorted(losses) == [*range(1, 9), *range(12, 21)]
    assert [row["step"] for row in done.metrics if "eval_loss" in row] == [0, 12, 20]


@pytest.mark.parametrize(
    "backend", ["zero2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero3", "none"))]
)
@pytest.mark.faults(case="14", fault="NaN loss on one rank, five steps in a row")
def test_five_bad_steps_end_the_run(warm: Warm, corpus: Path, backend: str) -> None:
    """The bad steps leave no checkpoint, the run is not started again, and the last line names the samples."""
    settings = [f"deepspeed={backend}", "trainer.save_steps=5"]
    done = warm(f"five-{backend}", corpus, *settings, fault="nan-loss 1 7-19")
    assert done.code == 1
    assert (done.status["state"], done.status["restarts"]) == ("failed", 0)
    last = done.stderr.strip().splitlines()[-1]
    assert "FinalError: trainer.max_bad_steps=5: 5 steps in a row had a NaN or infinite loss or gradient" in last
    for step in range(8, 13):
        # Rank 1 has the second and the fourth pair of the 8 samples of a step.
        first = (step - 1) * 8
        assert f"step {step}: the loss is nan on rank 1, samples {first + 2} to {first + 3} (documents" in last
        assert f"samples {first + 6} to {first + 7} (documents" in last
    assert "step 13" not in last
    assert "run.resume=" in last and "checkpoint-5" in last
    assert_clean(done.run, 5)
    assert not (done.run / "model").exists()


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="a streak of bad steps, stopped and resumed in its middle")
def test_a_streak_goes_on_after_a_restart(faults: Faults) -> None:
    """The checkpoint of the stop holds the streak's length, its samples, and the save that it put off."""
    settings = ["trainer.save_steps=9"]
    stopped = faults.start("streak", *settings, fault="nan-loss 1 7-19;stop-in-forward 0 9", once=False).end()
    assert stopped.code == 75, stopped.stderr
    assert_clean(stopped.run, 10)
    window = json.loads((stopped.run / "checkpoints" / "checkpoint-10" / "trainer_window_1.json").read_text())
    assert window["bad_steps"]["total"] == 3 and window["bad_steps"]["save_due"]
    done = faults.start("streak", *settings, fault="nan-loss 1 7-19", once=False).end()
    last = done.stderr.strip().splitlines()[-1]
    assert done.code == 1 and "5 steps in a row" in last
    assert [f"step {step}: the loss is nan on rank 1" in last for step in range(7, 14)] == [False, *[True] * 5, False]
    assert_clean(done.run, 10)
    mended = faults.again("streak", *settings)
    assert mended.code == 0 and mended.status["resumed_from"][-1] == 10
    assert_clean(mended.run, 11, 18, 20)
    assert mended.status["final"]["bad_steps"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["zero2", "zero3", "none"])
@pytest.mark.parametrize(("step", "kept"), [(10, [5]), (18, [5, 10, 15])])
@pytest.mark.faults(case="14", fault="weights of one rank become NaN, at a save and between two")
def test_weights_that_are_nan_are_never_saved(
    warm: Warm, corpus: Path, backend: str, step: int, kept: list[int]
) -> None:
    name = f"nan-weights-{backend}-{step}"
    done = warm(name, corpus, f"deepspeed={backend}", *SETTINGS, fault=f"nan-weights 1 {step}")
    assert done.code == 1, done.stdout
    assert "is NaN or infinite, and what is saved must be finite" in done.stderr.strip().splitlines()[-1]
    assert f"run.resume={done.run}/checkpoints/checkpoint-{kept[-1]}" in done.stderr
    assert_clean(done.run, *kept)
    assert not (done.run / "model").exists()


WATCHED = ["trainer.spike_window=10", "trainer.save_steps=5", "launch.max_restarts=0"]
BACK = ["trainer.on_spike=rollback", *WATCHED]


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="the loss of one rank times 1,000 in one step")
def test_a_spike_is_logged(faults: Faults, zero2_run: Finished) -> None:
    """The file has one line for it, although the run fails after the spike and meets it again."""
    settings = [*WATCHED, "launch.max_restarts=1"]
    done = faults.start("spike", *settings, fault="spike 0 13;fail 1 14", once=False).end()
    assert done.code == 1 and "restart 1 of 1" in done.stderr
    assert done.stdout.count("step 14: the loss ") == 2
    (row,) = [json.loads(line) for line in (done.run / "spikes.jsonl").read_text().splitlines()]
    losses = zero2_run.series("loss")[3:13]
    assert row["step"] == 14 and row["loss"] > 1000
    assert (row["first_sample"], row["last_sample"]) == (13 * 8, 14 * 8 - 1)
    assert row["mean"] == pytest.approx(statistics.fmean(losses), rel=1e-4)
    assert row["deviation"] == pytest.approx(statistics.pstdev(losses), rel=1e-2)
    mended = faults.again("spike", *settings)
    assert mended.code == 0 and "is a spike" not in mended.stdout


@pytest.fixture(scope="module")
def without_stretch(outputs: Path, pretrain: Pretrain) -> Finished:
    """An undisturbed run on data without the samples 80 to 103."""
    run = outputs / "pretrain" / "without-stretch"
    run.mkdir(parents=True)
    (run / "skipped.json").write_text(json.dumps({"stretches": [{"first_sample": 80, "last_sample": 103}]}))
    return pretrain("without-stretch", *BACK)


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="a batch whose loss is 1,000 times as high whenever it is seen")
def test_a_spike_is_rolled_back_and_its_data_left_out(
    faults: Faults, zero2_run: Finished, without_stretch: Finished, tmp_path: Path
) -> None:
    seen = {"FAULT_BATCHES": str(tmp_path / "seen")}
    done = faults.start("rollback", *BACK, fault="bad-batch 0 12", **seen).end()
    assert (done.status["rollbacks"], done.status["restarts"]) == (1, 0)
    assert done.status["resumed_from"] == [10]
    assert "going back, samples 80 to 103 are left out" in done.stdout and "failed" not in done.stderr
    (stretch,) = json.loads((done.run / "skipped.json").read_text())["stretches"]
    assert (stretch["step"], stretch["first_sample"], stretch["last_sample"]) == (13, 80, 103)
    assert_same_run(done, without_stretch)
    assert any(not torch.equal(tensor, done.weights[name]) for name, tensor in zero2_run.weights.items())
    assert done.series("loss")[:10] == zero2_run.series("loss")[:10]
    assert done.series("loss")[10:] != zero2_run.series("loss")[10:]


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="a spike in the very step of a stop")
def test_a_stop_in_the_step_of_a_spike_keeps_the_rollback(faults: Faults, without_stretch: Finished) -> None:
    stopped = faults.start("stopped-spike", *BACK, fault="spike 0 12;stop-in-forward 1 12", once=False).end()
    assert stopped.code == 75, stopped.stderr
    assert_clean(stopped.run, 5, 10)
    assert_same_run(faults.again("stopped-spike", *BACK), without_stretch)


@pytest.mark.slow
@pytest.mark.faults(case="14", fault="a spike that no rollback cures")
def test_rollbacks_come_to_an_end(faults: Faults) -> None:
    """Step 13 spikes on any data, in a run that has gone back eight times already."""
    run = faults.outputs / "pretrain" / "spiking"
    run.mkdir(parents=True)
    earlier = [{"first_sample": 10**6 + number, "last_sample": 10**6 + number} for number in range(8)]
    (run / "skipped.json").write_text(json.dumps({"stretches": earlier}))
    done = faults.start("spiking", *BACK, fault="spike 0 12", once=False).end()
    assert done.code == 1
    assert (done.status["state"], done.status["rollbacks"], done.status["resumed_from"]) == ("failed", 2, [10, 10])
    assert "trainer.on_spike=rollback has gone back 10 times" in done.stderr.strip().splitlines()[-1]
    stretches = json.loads((run / "skipped.json").read_text())["stretches"][8:]
    # The second time the steps 11 to 13 consist of the samples that follow the first stretch.
    assert [(each["first_sample"], each["last_sample"]) for each in stretches] == [(80, 103), (104, 127)]
    assert_clean(done.run, 5, 10)
