"""A run that goes on with another number of ranks, under another ZeRO stage, or with other settings."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT, Finished, Pretrain, clean_env
from disturb import Faults, Warm, leftovers
from safetensors.torch import load_file

from trainyard.checkpoint.convert import LATEST, MOMENTS, WEIGHTS, convert
from trainyard.checkpoint.manifest import MANIFEST

SETTINGS = ["trainer.save_steps=5", "trainer.async_save=false", "launch.max_restarts=0"]
"""checkpoint-10 is whole when step 12 fails, however slow the disk is."""


@pytest.fixture(scope="module")
def begun(outputs: Path, corpus: Path, pretrain: Pretrain) -> Callable[..., Path]:
    """A run on two ranks that failed in step 12, after checkpoint-10; run once for each list of overrides."""
    runs: dict[tuple[str, ...], Path] = {}

    def begin(*overrides: str) -> Path:
        if overrides not in runs:
            live = Faults(outputs, corpus, pretrain).start(
                f"begun-{len(runs)}", *SETTINGS, *overrides, fault="fail 0 11"
            )
            done = live.end()
            assert done.code == 1 and "injected" in done.stderr, done.stdout + done.stderr
            runs[overrides] = live.run
        return runs[overrides]

    return begin


@pytest.fixture
def go_on(pretrain: Pretrain, request: pytest.FixtureRequest) -> Callable[..., Finished]:
    """Goes on with a copy of a run."""

    def run(begun: Path, *overrides: str) -> Finished:
        name = f"{begun.name}-{abs(hash((request.node.name, overrides)))}"
        shutil.copytree(begun, begun.with_name(name))
        return pretrain(name, *SETTINGS, *overrides)

    return run


def assert_same_curve(one: Finished, other: Finished, within: float = 1e-4) -> None:
    """Asserts equal losses, gradient norms and evaluations at the same steps, up to rounding."""
    assert one.code == other.code == 0, one.stdout + one.stderr
    assert [row["step"] for row in one.metrics] == [row["step"] for row in other.metrics]
    for name in ("loss", "eval_loss", "learning_rate"):
        assert len(one.series(name)) >= 3
        assert one.series(name) == pytest.approx(other.series(name), rel=within), name
    assert one.series("grad_norm") == pytest.approx(other.series("grad_norm"), rel=10 * within)


def states(run: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Weights and moments of a run's last checkpoint, by `<parameter> <state>`."""
    target = folder / f"{run.name}" / "checkpoint-20"
    if not target.exists():
        target.parent.mkdir()
        convert(run / "checkpoints" / "checkpoint-20", target, fp16=False)
    files = (target / "global_step20" / "zero").glob("*/*.pt")
    saved = {f"{file.parent.name} {file.stem}": torch.load(file) for file in files if file.stem != "step"}
    return {name: value["param"] for name, value in saved.items()}


def assert_same_states(one: Finished, other: Finished, folder: Path) -> None:
    """Asserts equal weights and moments, up to rounding."""
    first, second = states(one.run, folder), states(other.run, folder)
    assert first.keys() == second.keys() and len(first) == 60  # 20 parameters, each with two moments
    for name, tensor in first.items():
        assert torch.dist(tensor, second[name]) <= 1e-4 * tensor.norm(), name


@pytest.mark.faults(case="12", fault="2 -> 1 -> 2 ranks, ZeRO-2 -> ZeRO-3")
def test_ranks_and_stage_change_in_the_middle_of_a_run(
    faults: Faults, zero2_run: Finished, begun: Callable[..., Path], tmp_path: Path
) -> None:
    run = shutil.copytree(begun(), begun().with_name("moved"))
    alone = faults.start(run.name, *SETTINGS, "launch.num_devices=1", fault="fail 0 16", once=False).end()
    assert "checkpoint-10: written by 2 ranks under ZeRO-2; converting it for 1 rank under ZeRO-2" in alone.stdout
    assert "4 accumulated" in alone.stdout and "injected" in alone.stderr
    manifest = json.loads((run / "checkpoints" / "checkpoint-15" / MANIFEST).read_text())
    assert (manifest["world_size"], manifest["zero_stage"], manifest["samples_seen"]) == (1, 2, 15 * 8)
    done = faults.again(run.name, *SETTINGS, "deepspeed=zero3")
    assert "checkpoint-15: written by 1 rank under ZeRO-2; converting it for 2 ranks under ZeRO-3" in done.stdout
    assert done.status["resumed_from"] == [10, 15]
    assert_same_curve(done, zero2_run)
    assert_same_states(done, zero2_run, tmp_path)
    assert not (run / "converted").exists()


CHANGES = [
    ("zero2", "zero2", 1),
    ("zero2", "zero3", 2),
    ("zero2", "zero1", 1),
    ("zero2", "none", 2),
    ("zero3", "zero2", 2),
    ("zero3", "zero3", 1),
    ("zero3", "none", 1),
    ("none", "none", 1),
    ("none", "zero2", 1),
    ("none", "zero3", 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "ranks"), CHANGES)
@pytest.mark.faults(case="12", fault="every stage and DDP to the others")
def test_from_every_stage_to_every_other(
    zero2_run: Finished,
    begun: Callable[..., Path],
    go_on: Callable[..., Finished],
    tmp_path: Path,
    before: str,
    after: str,
    ranks: int,
) -> None:
    done = go_on(begun(f"deepspeed={before}"), f"deepspeed={after}", f"launch.num_devices={ranks}")
    assert ("converting it" in done.stdout) == (before != after or before != "none")
    assert done.status["resumed_from"] == [10]
    assert_same_curve(done, zero2_run)
    assert_same_states(done, zero2_run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [["launch.num_devices=2"], ["launch.num_devices=3", "deepspeed=zero3"]])
@pytest.mark.faults(case="12", fault="another accumulation; 2 -> 3 ranks, which divide no parameter evenly")
def test_accumulation_and_ranks_change_at_the_same_global_batch(
    pretrain: Pretrain, begun: Callable[..., Path], go_on: Callable[..., Finished], overrides: list[str]
) -> None:
    batch = ["trainer.global_batch_size=12", "trainer.per_device_train_batch_size=2"]
    undisturbed = pretrain("batch-of-12", *batch)
    ranks = int(overrides[0][-1])
    done = go_on(begun(*batch), batch[0], *overrides, "trainer.per_device_train_batch_size=1")
    assert f"{ranks} ranks x 1 sequences x {12 // ranks} accumulated" in done.stdout
    assert ("converting it for 3 ranks under ZeRO-3" in done.stdout) == (ranks == 3)
    assert_same_curve(done, undisturbed)


@pytest.mark.slow
@pytest.mark.faults(case="12", fault="bf16: the weights that are trained are float32")
def test_float32_weights_are_carried_over_under_bf16(
    pretrain: Pretrain, begun: Callable[..., Path], go_on: Callable[..., Finished], tmp_path: Path
) -> None:
    undisturbed = pretrain("bf16", "trainer.bf16=true")
    done = go_on(begun("trainer.bf16=true"), "trainer.bf16=true", "deepspeed=zero3")
    assert_same_curve(done, undisturbed)
    before, after = states(undisturbed.run, tmp_path), states(done.run, tmp_path)
    for name in (name for name in before if name.endswith(WEIGHTS)):
        assert not torch.equal(after[name], after[name].bfloat16().float()), name
        assert torch.dist(before[name], after[name]) < 1e-3 * before[name].norm(), name  # half a step of bf16 is 4e-3


@pytest.mark.slow
@pytest.mark.faults(
    case="12", fault="an optimizer in the DeepSpeed JSON, which has other groups of parameters, and back"
)
def test_the_optimizer_moves_into_the_json_and_back(faults: Faults, begun: Callable[..., Path], tmp_path: Path) -> None:
    same = "trainer.weight_decay=0"  # in the JSON it would apply to every parameter
    undisturbed = faults.again("without-decay", same)
    own = tmp_path / "own.json"
    values = json.loads((ROOT / "ds_configs" / "zero2.json").read_text())
    values["optimizer"] = json.loads((ROOT / "ds_configs" / "zero2_offload.json").read_text())["optimizer"]
    own.write_text(json.dumps(values))
    run = shutil.copytree(begun(same), begun(same).with_name("moved-to-json"))
    there = faults.start(run.name, *SETTINGS, same, f"deepspeed.config={own}", fault="fail 0 16", once=False).end()
    assert "converting it for 2 ranks under ZeRO-2" in there.stdout and "injected" in there.stderr
    back = faults.again(run.name, *SETTINGS, same, "deepspeed=zero3", "launch.num_devices=1")
    assert back.status["resumed_from"] == [10, 15]
    assert back.series("loss") == pytest.approx(undisturbed.series("loss"), rel=1e-4)


@pytest.mark.slow
@pytest.mark.faults(
    case="12", fault="LoRA with added tokens: ZeRO-3 on 2 ranks -> ZeRO-2 on 1 -> DDP on 2 -> ZeRO-3 on 1"
)
def test_adapters_go_on_anywhere(lora: Callable[..., Finished]) -> None:
    settings = ["trainer.lr_scheduler_type=constant", "trainer.save_steps=2", "peft.dropout=0"]
    undisturbed = lora("lora-undisturbed", *settings, "deepspeed=zero3", "trainer.max_steps=8")
    places = [("zero3", 2), ("zero2", 1), ("none", 2), ("zero3", 1)]
    for number, (deepspeed, ranks) in enumerate(places, 1):
        where = [f"deepspeed={deepspeed}", f"launch.num_devices={ranks}"]
        done = lora("lora-moved", *settings, *where, f"trainer.max_steps={2 * number}")
    assert done.status["resumed_from"] == [2, 4, 6]
    losses = [{row["step"]: row["loss"] for row in run.metrics if "loss" in row} for run in (done, undisturbed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 8


@pytest.mark.slow
@pytest.mark.faults(case="12", fault="load_best_model_at_end, and the best checkpoint is older than the change")
def test_the_best_model_is_found_in_a_checkpoint_of_other_ranks(
    begun: Callable[..., Path], go_on: Callable[..., Finished]
) -> None:
    best = ["trainer.load_best_model_at_end=true", "trainer.eval_steps=5"]
    ruined = ["trainer.learning_rate=1", "run.allow_changes=[trainer.learning_rate]"]
    done = go_on(begun(*best), *best, *ruined, "deepspeed=zero3", "launch.num_devices=1")
    assert done.code == 0, done.stdout + done.stderr
    assert done.series("eval_loss")[-1] > min(done.series("eval_loss"))
    saved = load_file(done.run / "checkpoints" / "checkpoint-10" / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in done.weights.items()) and len(saved) == 20
    assert not (done.run / "converted").exists()


@pytest.mark.slow
@pytest.mark.faults(case="12", fault="none: the best checkpoint is the last, which rank 0 is about to finish")
def test_the_best_model_may_be_the_last_that_was_saved(warm: Warm, corpus: Path) -> None:
    best = ["trainer.load_best_model_at_end=true", "trainer.eval_steps=5", "trainer.save_steps=5"]
    for number in range(3):
        done = warm(f"best-is-last-{number}", corpus, *best, "trainer.max_steps=10", "launch.max_restarts=0")
        assert done.code == 0, done.stdout + done.stderr
        assert min(done.series("eval_loss")) == done.series("eval_loss")[-1]


@pytest.mark.slow
@pytest.mark.faults(case="12", fault="a run that begins from another's checkpoint, of other ranks")
def test_a_run_begins_from_a_checkpoint_of_other_ranks(
    warm: Warm, corpus: Path, zero2_run: Finished, begun: Callable[..., Path]
) -> None:
    named = begun() / "checkpoints" / "checkpoint-10"
    where = [f"run.resume={named}", "launch.num_devices=1", "deepspeed=zero3"]
    done = warm("from-elsewhere", corpus, *SETTINGS, *where)
    assert done.code == 0 and "converting it for 1 rank under ZeRO-3" in done.stdout, done.stdout + done.stderr
    losses = [{row["step"]: row["loss"] for row in run.metrics if "loss" in row} for run in (done, zero2_run)]
    assert sorted(losses[0]) == list(range(11, 21))
    assert losses[0] == pytest.approx({step: losses[1][step] for step in losses[0]}, rel=1e-4)


CONVERSION = "trainyard.checkpoint.convert"


@pytest.mark.slow
@pytest.mark.parametrize("disturbance", ["SIGTERM", "SIGKILL of the conversion", "SIGKILL of the controller"])
@pytest.mark.faults(case="12", fault="a stop or a kill during the conversion")
def test_a_conversion_is_whole_or_not_there(
    faults: Faults, zero2_run: Finished, begun: Callable[..., Path], disturbance: str
) -> None:
    name = f"converted-{disturbance.replace(' ', '-')}"
    shutil.copytree(begun(), begun().with_name(name))
    alone = [*SETTINGS, "launch.num_devices=1"]
    live = faults.start(name, *alone)
    live.wait_for(lambda: live.members(CONVERSION))
    family = live.members("")
    if disturbance == "SIGKILL of the controller":
        live.process.kill()
        live.process.wait()
        assert psutil.wait_procs(family, timeout=30)[1] == []
    elif disturbance == "SIGTERM":
        live.process.send_signal(signal.SIGTERM)
        done = live.end()
        assert done.code == 75 and "SIGTERM during the conversion; the same command resumes" in done.stdout
    else:
        os.kill(live.members(CONVERSION)[0].pid, signal.SIGKILL)
        done = live.end()
        assert done.code == 1 and "the conversion of checkpoint-10 failed: " in done.stderr
    assert leftovers(live.run) == []
    converted = live.run / "converted" / "checkpoint-10"
    assert (converted / LATEST).exists() or not converted.exists()
    again = faults.again(name, *alone)
    assert_same_curve(again, zero2_run)
    assert not (live.run / "converted").exists()


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
@pytest.mark.faults(case="12", fault="none: our conversion against DeepSpeed's own")
def test_every_state_is_what_deepspeed_makes_of_it(
    zero2_run: Finished, pretrain: Pretrain, tmp_path: Path, deepspeed: str
) -> None:
    run = zero2_run if deepspeed == "zero2" else pretrain("zero3-2", "deepspeed=zero3", "launch.num_devices=2")
    ours = states(run.run, tmp_path)
    source = run.run / "checkpoints" / "checkpoint-20" / "global_step20"
    tool = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    folders = ["--input_folder", str(source), "--output_folder", str(tmp_path / "theirs")]
    subprocess.run([*tool, *folders], check=True, capture_output=True, env=clean_env(DS_ACCELERATOR="cpu"))
    for name, tensor in ours.items():
        parameter, state = name.split()
        saved = torch.load(tmp_path / "theirs" / "zero" / parameter / f"{state}.pt")
        saved = saved["param"] if isinstance(saved, dict) else saved.view_as(tensor)
        assert torch.equal(tensor, saved), name
    assert len(ours) == 20 * (1 + len(MOMENTS))
