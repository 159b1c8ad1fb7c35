"""conf/debug/: every file says how it is used, composes for both stages and for recipes, and does what it promises."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, TINY, Finished, clean_env, make_documents

from trainyard.config.compose import compose
from trainyard.config.overrides import default_name

FILES = sorted((ROOT / "conf" / "debug").glob("*.yaml"))
SMALL = [item for item in TINY if not item.startswith("trainer.")]
"""The tiny model and short sequences; the Trainer's settings are those of conf/."""


def launch(outputs: Path, stage: str, *overrides: str) -> Finished:
    """The command in the first lines of the file in conf/debug/, for the tiny model."""
    arguments = ["bash", str(ROOT / "launch" / f"{stage}.sh"), f"paths.outputs={outputs}", *SMALL, *overrides]
    done = subprocess.run(arguments, env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (outputs / stage).iterdir()
    return Finished(done.returncode, done.stdout, done.stderr, 0, run)


def source(corpus: Path) -> str:
    return f"data.sources=[{{path: '{corpus}', format: jsonl}}]"


def test_there_is_a_file_for_each_purpose() -> None:
    assert [file.stem for file in FILES] == ["overfit", "profile", "short"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_begins_with_the_command_and_composes_with_both_stages_and_recipes(file: Path) -> None:
    first, purpose = file.read_text(encoding="utf-8").splitlines()[:2]
    assert first == "# @package _global_" and purpose.startswith("# ")
    assert f"bash launch/pretrain.sh debug={file.stem}" in "\n".join(file.read_text().splitlines()[2:4])
    recipes = {"pretrain": "llama_8b_scratch", "sft": "sft_qwen3_1_7b_belle_lora"}
    for stage, recipe in recipes.items():
        alone = compose(stage, [f"debug={file.stem}"])
        together = compose(stage, [f"debug={file.stem}", f"experiment={recipe}"])
        assert (
            alone.trainer.max_steps
            == together.trainer.max_steps
            == {"overfit": 200, "profile": 8, "short": 10}[file.stem]
        )
        assert alone.run.resume == together.run.resume == "never"
        assert together.model == compose(stage, [f"experiment={recipe}"]).model
    assert default_name([f"debug={file.stem}", "experiment=x"]) == f"x-{file.stem}"


def test_overfit_drives_the_loss_of_one_batch_to_about_zero(tmp_path: Path, corpus: Path) -> None:
    quick = ["launch.num_devices=1", "trainer.per_device_train_batch_size=8", "trainer.max_steps=100"]
    quick += [
        "model.hidden_size=192",
        "model.intermediate_size=512",
        "model.num_hidden_layers=4",
    ]  # room for 512 tokens
    done = launch(tmp_path, "pretrain", source(corpus), "debug=overfit", *quick)
    assert done.run.name.startswith("default-overfit-")
    losses = done.series("loss")
    assert len(losses) == 10
    assert losses[0] > 4
    assert losses[-1] < 0.1
    assert "8 sequences of 64 tokens" in done.stdout


def test_short_evaluates_and_saves_within_ten_steps(tmp_path: Path) -> None:
    rows = [{"instruction": f"say {number}", "output": text[:40]} for number, text in enumerate(make_documents(60))]
    chats = tmp_path / "rows.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = f"data.sources=[{{path: '{chats}', format: alpaca}}]"
    outputs = tmp_path / "outputs"
    small = ["data.chat_template=plain", "data.packing=padded", "tracking=none", "launch.num_devices=1"]
    done = launch(outputs, "sft", sources, "debug=short", "tracking.samples=0", *small)
    assert [row["step"] for row in done.metrics if "loss" in row] == list(range(1, 11))
    assert len(done.series("eval_loss")) == 3
    assert {path.name for path in (done.run / "checkpoints").iterdir()} == {"checkpoint-5", "checkpoint-10"}
    assert (done.run / "model" / "model.safetensors").is_file()


def test_profile_writes_a_trace_that_a_browser_opens(tmp_path: Path, corpus: Path) -> None:
    done = launch(tmp_path, "pretrain", source(corpus), "debug=profile", "launch.num_devices=1")
    trace = done.run / "logs" / "trace.json.gz"
    with gzip.open(trace, "rt") as stream:
        events = json.load(stream)["traceEvents"]
    steps = [event["name"] for event in events if str(event.get("name", "")).startswith("ProfilerStep#")]
    assert sorted(set(steps)) == ["ProfilerStep#3", "ProfilerStep#4", "ProfilerStep#5"]
    assert any("aten::mm" in str(event.get("name")) for event in events)
    assert f"trace of steps 4 to 6: {trace}" in done.stdout
