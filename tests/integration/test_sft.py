"""Fine-tuning through the real launcher."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished, clean_env, make_documents

from trainyard.schema import ARCHITECTURE

Sft = Callable[..., Finished]
QUIET = ["tracking=none", "data.eval_fraction=0", "trainer.save_strategy=no", "trainer.lr_scheduler_type=constant"]


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen conversations of unequal length."""
    path = tmp_path_factory.mktemp("conversations") / "rows.jsonl"
    answers = [text[: 20 + 15 * (number % 5)] for number, text in enumerate(make_documents(16))]
    rows = [{"instruction": f"say {number}", "output": answer} for number, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def whole_corpus_steps(sft: Sft, corpus: Path, name: str, sequences: int, micro: int, *overrides: str) -> Finished:
    """Three steps, each on every conversation once."""
    batch = [f"trainer.global_batch_size={sequences}", f"trainer.per_device_train_batch_size={micro}"]
    done = sft(name, corpus, *QUIET, *batch, "trainer.max_steps=3", "data.block_size=128", *overrides)
    assert done.code == 0, done.stdout + done.stderr
    return done


def test_the_loss_is_the_mean_over_learned_tokens_however_they_are_divided(sft: Sft, conversations: Path) -> None:
    """Packed and padded, one rank and two, accumulation 1 and 4: one loss and one gradient norm, step by step."""
    packed = whole_corpus_steps(sft, conversations, "packed", 1, 1, "launch.num_devices=1", "data.block_size=1024",
                                "model.max_position_embeddings=1024")  # fmt: skip
    assert "1 sequences of 1024 tokens" in packed.stdout
    runs = [
        whole_corpus_steps(sft, conversations, "padded-1x4", 16, 4, "data.packing=padded", "launch.num_devices=1",
                           "model.max_position_embeddings=1024"),
        whole_corpus_steps(sft, conversations, "padded-2x1", 16, 8, "data.packing=padded", "deepspeed=none",
                           "model.max_position_embeddings=1024"),
    ]  # fmt: skip
    for run in runs:
        assert run.series("loss") == pytest.approx(packed.series("loss"), rel=1e-4)
        assert run.series("grad_norm") == pytest.approx(packed.series("grad_norm"), rel=1e-4)
    assert len(packed.series("loss")) == 3
    assert packed.series("loss")[-1] < packed.series("loss")[0]


def test_a_model_that_has_learned_its_conversations_answers_and_stops(sft: Sft, tmp_path: Path) -> None:
    """Twenty conversations by heart, then greedy answers to their questions."""
    answers = {f"what is {chr(97 + number) * 4}": text[:20] for number, text in enumerate(make_documents(20))}
    corpus = tmp_path / "rows.jsonl"
    rows = [{"instruction": question, "output": answer} for question, answer in answers.items()]
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    batch = ["launch.num_devices=1", "trainer.global_batch_size=4", "trainer.per_device_train_batch_size=4"]
    settings = ["trainer.max_steps=400", "trainer.learning_rate=3e-3", "deepspeed=none", *batch]
    done = sft("by-heart", corpus, *QUIET, *settings)
    assert done.code == 0, done.stdout + done.stderr
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(answers) + "\n")
    command = [sys.executable, "-m", "trainyard", "generate", str(done.run), "--prompts", str(prompts)]
    told = subprocess.run(command, env=clean_env(), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    given = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["response"] for row in given] == list(answers.values())
    assert all(row["finished"] for row in given)


def test_adapters_are_trained_alone_saved_and_resumed(sft: Sft, conversations: Path, tmp_path: Path) -> None:
    """LoRA under ZeRO-3 on two ranks, stopped half-way: the same adapter as without the stop."""
    from safetensors.torch import load_file

    base = sft("base", conversations, *QUIET, "trainer.max_steps=2", "trainer.global_batch_size=4")
    assert base.code == 0, base.stdout + base.stderr
    settings = [
        "peft=lora", "deepspeed=zero3", "peft.target_modules=[q_proj, v_proj]", "trainer.global_batch_size=4",
        "tracking=none", "data.eval_fraction=0", "trainer.save_steps=2", "trainer.lr_scheduler_type=constant",
        f"model.path={base.run / 'model'}", *(f"model.{name}=null" for name in ARCHITECTURE),
    ]  # fmt: skip
    whole = sft("whole", conversations, *settings, "trainer.max_steps=4")
    assert whole.code == 0, whole.stdout + whole.stderr
    assert " 3,584 trainable" in whole.stdout  # 2 layers x r 8 x (64 + 64 + 64 + 32)
    parted = [sft("parted", conversations, *settings, f"trainer.max_steps={steps}") for steps in (2, 4)]
    assert [run.code for run in parted] == [0, 0], parted[-1].stdout + parted[-1].stderr
    assert "resuming from checkpoint-2" in parted[-1].stdout
    ours, theirs = (load_file(run.run / "model" / "adapter_model.safetensors") for run in (parted[-1], whole))
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
