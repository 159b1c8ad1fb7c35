"""Runs that version 0.1 began and a stop signal interrupted go on to the weights that 0.1 itself reached.

tests/data/runs_of_0.1/runs.tar.gz holds, made by commit 98fd964 on two CPU ranks: a pretraining run under ZeRO-2 and a
LoRA run under ZeRO-3, each stopped by SIGTERM after step 5 of 12; their prepared data; and the weights and metrics of
the same two runs left undisturbed. The libraries' arithmetic is fixed to instructions that every x86-64 CPU has, so
that bits can be compared with those of another machine.
"""

import json
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, clean_env
from safetensors.torch import load_file

ARCHIVE = ROOT / "tests" / "data" / "runs_of_0.1" / "runs.tar.gz"
PORTABLE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}

MODEL = """model.hidden_size=16 model.intermediate_size=32 model.num_hidden_layers=2 model.num_attention_heads=2
model.num_key_value_heads=1 model.max_position_embeddings=64 tokenizer.vocab_size=320"""
COMMON = """data.block_size=64 data.eval_fraction=0.1 trainer.per_device_train_batch_size=2 trainer.global_batch_size=8
trainer.max_steps=12 trainer.logging_steps=1 trainer.eval_steps=1 trainer.save_steps=100 trainer.save_total_limit=1
launch.num_devices=2 tracking=none trainer.lr_scheduler_type=cosine"""
TEXT = ["data.sources=[{path: corpus.jsonl, format: jsonl}]", "deepspeed=zero2"]
CONVERSATIONS = ["data.sources=[{path: rows.jsonl, format: alpaca}]", "deepspeed=zero3", "peft=lora"]
BASE = ["data.chat_template=plain", "model.path=outputs/pretrain/zero2/model", "model=from_path"]

COMMANDS = {
    ("pretrain", "zero2"): [*MODEL.split(), *COMMON.split(), *TEXT],
    ("sft", "lora"): [*COMMON.split(), *CONVERSATIONS, *BASE],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which 0.1 was started, with its outputs; paths in configs name the folder's new place."""
    place = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place, filter="data")
    for file in place.glob("outputs/*/*/config.yaml"):
        file.write_text(file.read_text().replace("@HERE@", str(place)))
    return place


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the bits to compare with were computed on x86-64")
@pytest.mark.parametrize(("stage", "name"), COMMANDS)
def test_an_interrupted_run_of_0_1_goes_on_bit_for_bit(folder: Path, stage: str, name: str) -> None:
    outputs = folder / "outputs"
    run, undisturbed = outputs / stage / f"{name}-stopped", outputs / stage / name
    prepared = sorted(path.name for path in (outputs / "prepared").iterdir() if path.is_dir())
    script = ROOT / "launch" / f"{stage}.sh"
    done = subprocess.run(
        ["bash", str(script), f"run.name={run.name}", *COMMANDS[stage, name]],
        cwd=folder, env=clean_env(**PORTABLE), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((run / "status.json").read_text())["resumed_from"] == [5]
    assert sorted(path.name for path in (outputs / "prepared").iterdir() if path.is_dir()) == prepared

    (ours,), (theirs,) = ((path / "model").glob("*.safetensors") for path in (run, undisturbed))
    weights, wanted = load_file(ours), load_file(theirs)
    assert weights.keys() == wanted.keys()
    assert len(weights) > 10
    for tensor in weights:
        assert torch.equal(weights[tensor], wanted[tensor]), tensor
    assert curves(run) == curves(undisturbed)


def curves(run: Path) -> list[tuple[int, float | None, float | None]]:
    """Step, training loss and held-out loss of every line of metrics."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(13))
    return [(row["step"], row.get("loss"), row.get("eval_loss")) for row in rows]


@pytest.mark.parametrize(("stage", "name"), COMMANDS)
def test_the_commands_read_what_0_1_left(folder: Path, stage: str, name: str) -> None:
    run = folder / "outputs" / stage / f"{name}-stopped"
    verified = trainyard("checkpoints", "verify", str(run), "--json")
    assert [json.loads(line)["problem"] for line in verified.splitlines()] == [None]
    shown = trainyard("runs", "show", f"{stage}/{name}-stopped", "--outputs", str(folder / "outputs"), "--json")
    assert json.loads(shown)["step"] in (5, 12)


def trainyard(*arguments: str) -> str:
    command = [sys.executable, "-m", "trainyard", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
