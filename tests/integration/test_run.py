"""The files and the output of a run, and the same command a second time."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import SLOW, Finished, Pretrain, clean_env, command, start

from trainyard.checkpoint.manifest import verify


def test_the_run_directory_holds_what_the_design_says(zero2_run: Finished) -> None:
    status = zero2_run.status
    assert (status["state"], status["exit_code"], status["step"], status["max_steps"]) == ("finished", 0, 20, 20)
    assert (status["world_size"], status["restarts"], status["resumed_from"]) == (2, 0, [])
    assert status["tokens_seen"] == 20 * 8 * 64
    assert status["final"]["eval_loss"] == zero2_run.series("eval_loss")[-1]
    assert status["final"]["first_eval_loss"] == zero2_run.series("eval_loss")[0]
    assert [row["step"] for row in zero2_run.metrics] == list(range(21))
    row = zero2_run.metrics[-1]
    assert set(row["ranks"]) == {"cpu_percent", "memory_gib"} and max(row["ranks"]["memory_gib"]) == row["memory_gib"]
    assert all(len(column) == 2 and min(column) > 0 for column in row["ranks"].values())
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gib", "data_wait", "epoch"} <= set(row)
    assert {path.name for path in (zero2_run.run / "checkpoints").iterdir()} == {"checkpoint-10", "checkpoint-20"}
    assert verify(zero2_run.run / "checkpoints" / "checkpoint-10") is None
    manifest = json.loads((zero2_run.run / "checkpoints" / "checkpoint-10" / "manifest.json").read_text())
    assert (manifest["step"], manifest["samples_seen"], manifest["world_size"]) == (10, 80, 2)
    assert (zero2_run.run / "logs" / "rank-0.log").stat().st_size > 0
    assert (zero2_run.run / "logs" / "rank-1.log").stat().st_size > 0


def test_the_resolved_deepspeed_json_has_no_auto_left(zero2_run: Finished) -> None:
    values = json.loads((zero2_run.run / "deepspeed.json").read_text())
    assert values["train_batch_size"] == 8
    assert values["train_micro_batch_size_per_gpu"] == 2
    assert values["gradient_accumulation_steps"] == 2
    assert values["zero_optimization"]["stage"] == 2
    assert "auto" not in json.dumps(values)


def test_the_model_loads_and_gives_the_reported_loss(zero2_run: Finished) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainyard.config.saved import load
    from trainyard.data.batches.collator import Collator
    from trainyard.data.batches.dataset import open_datasets

    config = load(zero2_run.run / "config.yaml")
    model = AutoModelForCausalLM.from_pretrained(zero2_run.run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(zero2_run.run / "model")
    assert model.config.eos_token_id == tokenizer.eos_token_id
    held_out = open_datasets(Path(str(config.data.prepared)), config.data, config.run.seed).evaluation
    assert held_out is not None
    batch = Collator(config.data.block_size)([held_out[index] for index in range(len(held_out))])
    with torch.no_grad():
        loss = model(**batch).loss
    assert loss.item() == pytest.approx(zero2_run.series("eval_loss")[-1], rel=1e-5)


def test_the_screen_shows_what_matters_and_no_library_chatter(zero2_run: Finished) -> None:
    said = zero2_run.stdout
    for wanted in (
        "parameters",
        "trainable",
        "8 sequences = 512 tokens a step",
        "steps per epoch",
        "20 steps = 10,240",
    ):
        assert wanted in said
    for wanted in ("held-out loss", "perplexity", "bash launch/dashboard.sh", "model.path="):
        assert wanted in said
    assert said.count("filled in: ") == 5 and said.count("filled in: launch.num_devices=2") == 1
    everything = said + zero2_run.stderr
    for noise in ("Warning", "WARNING", "[INFO]", "swanlab:", "torch.distributed"):
        assert noise not in everything
    assert len(everything.splitlines()) < 45


def test_the_same_command_again_says_that_it_is_finished(zero2_run: Finished, pretrain: Pretrain) -> None:
    before = (zero2_run.run / "model" / "model.safetensors").stat().st_mtime_ns
    again = pretrain("zero2-2")
    assert again.code == 0
    assert "finished, 20 steps" in again.stdout
    assert (zero2_run.run / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert again.status == zero2_run.status


HOSTILE = {
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "RANK": "3", "WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}  # fmt: skip
"""No UTF-8, and what other launchers leave in a shell."""


def test_a_killed_run_resumes_to_the_same_weights(
    zero2_run: Finished, outputs: Path, corpus: Path, tmp_path: Path
) -> None:
    """SIGKILL ends every process after the first checkpoint; then the same command goes on, in hostile surroundings."""
    names = ["run.name='中断'", f"data.sources=[{{path: '{tmp_path / '语料.jsonl'}', format: jsonl}}]"]
    shutil.copy(corpus, tmp_path / "语料.jsonl")
    arguments = command(outputs, "killed", corpus, "trainer.save_steps=6", SLOW, *names)
    run = outputs / "pretrain" / "中断"
    process = start(arguments, (run / "checkpoints" / "checkpoint-6" / "manifest.json").exists)
    kill_everything(process)
    assert json.loads((run / "status.json").read_text())["state"] == "running"  # none could change it

    for name in ("pretrain", "trainyard", "deepspeed", "token", "torch", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')\n")
    done = subprocess.run(arguments, env=clean_env(**HOSTILE), cwd=tmp_path, capture_output=True, text=True)
    resumed = Finished(done.returncode, done.stdout, done.stderr, 0, run)
    assert resumed.code == 0, done.stdout + done.stderr
    (step,) = resumed.status["resumed_from"]
    assert 6 <= step < 20
    assert f"resuming from checkpoint-{step}" in done.stdout
    assert_same_weights(resumed, zero2_run)
    assert [row["step"] for row in resumed.metrics] == list(range(21))
    assert resumed.series("loss") == zero2_run.series("loss")


@pytest.mark.parametrize("deepspeed", ["zero3", pytest.param("none", marks=pytest.mark.slow)])
def test_sigterm_saves_and_leaves_with_75_and_the_same_command_resumes(
    pretrain: Pretrain, outputs: Path, corpus: Path, deepspeed: str
) -> None:
    undisturbed = pretrain(f"{deepspeed}-2", f"deepspeed={deepspeed}", "launch.num_devices=2")
    assert undisturbed.code == 0, undisturbed.stderr
    name = f"stopped-{deepspeed}"
    arguments = command(outputs, name, corpus, "trainer.save_steps=100", f"deepspeed={deepspeed}", SLOW)
    run = outputs / "pretrain" / name
    metrics = run / "metrics.jsonl"
    process = start(arguments, lambda: metrics.exists() and '"loss"' in metrics.read_text())
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75, said
    stopped = Finished(75, said, "", 0, run)
    step = stopped.status["step"]
    assert stopped.status["state"] == "preempted"
    assert 1 <= step < 20
    assert verify(run / "checkpoints" / f"checkpoint-{step}") is None

    done = subprocess.run(arguments, env=clean_env(), capture_output=True, text=True)
    resumed = Finished(done.returncode, done.stdout, done.stderr, 0, run)
    assert resumed.code == 0, done.stdout + done.stderr
    assert resumed.status["resumed_from"] == [step]
    assert_same_weights(resumed, undisturbed)
    assert resumed.series("loss") == undisturbed.series("loss")


def test_starting_over_keeps_the_earlier_run_aside(pretrain: Pretrain, outputs: Path) -> None:
    short = ["trainer.max_steps=1", "tracking=none", "deepspeed=none", "launch.num_devices=1"]
    first = pretrain("over", *short)
    again = pretrain("over", *short, "run.resume=never", "run.seed=1")
    assert (first.code, again.code) == (0, 0), again.stderr
    kept = outputs / "pretrain" / "over.1"
    assert (kept / "model" / "model.safetensors").exists()
    assert again.status["resumed_from"] == []
    assert f"kept in {kept.name}" in again.stdout


def kill_everything(process: subprocess.Popen[str]) -> None:
    import psutil

    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(tree, timeout=10)
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in tree)


def assert_same_weights(one: Finished, other: Finished) -> None:
    first, second = one.weights, other.weights
    assert first.keys() == second.keys()
    assert len(first) > 10
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
