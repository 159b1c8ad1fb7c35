"""Fine-tuning runs through the real launcher."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished, clean_env, make_documents
from disturb import Warm

from trainyard.config.schema import ARCHITECTURE

Sft = Callable[..., Finished]
QUIET = ["tracking=none", "data.eval_fraction=0", "trainer.save_strategy=no", "trainer.lr_scheduler_type=constant"]
AS_IT_IS = [f"model.{name}=null" for name in ARCHITECTURE]
"""Overrides for a model at a path: they take back the architecture of the tiny model."""

QUESTIONS = [f"what is {chr(97 + number) * 4}" for number in range(20)]
SAID = [text[:20] for text in make_documents(20)]
ANSWERS = dict(zip(QUESTIONS, SAID, strict=True))
"""Twenty conversations to learn by heart."""
NEXT_ANSWERS = dict(zip(QUESTIONS, [*SAID[1:], SAID[0]], strict=True))
"""The same questions, each with the answer to the next one: a model that knows ANSWERS gets all of them wrong."""


def write_rows(directory: Path, answers: dict[str, str]) -> Path:
    path = directory / "rows.jsonl"
    rows = [{"instruction": question, "output": answer} for question, answer in answers.items()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen conversations of unequal length."""
    answers = {f"say {number}": text[: 20 + 15 * (number % 5)] for number, text in enumerate(make_documents(16))}
    return write_rows(tmp_path_factory.mktemp("conversations"), answers)


def whole_corpus_steps(warm: Warm, corpus: Path, name: str, sequences: int, micro: int, *overrides: str) -> Finished:
    """Three steps, each of which sees every conversation once."""
    batch = [f"trainer.global_batch_size={sequences}", f"trainer.per_device_train_batch_size={micro}"]
    short = ["trainer.max_steps=3", "data.block_size=128"]
    done = warm(name, corpus, *QUIET, *batch, *short, *overrides, stage="sft")
    assert done.code == 0, done.stdout + done.stderr
    return done


def test_the_loss_is_the_mean_over_learned_tokens_however_they_are_divided(warm: Warm, conversations: Path) -> None:
    """Packed and padded, on one rank and two, with accumulation 1 and 4: losses and gradient norms are equal."""
    packed = whole_corpus_steps(warm, conversations, "packed", 1, 1, "launch.num_devices=1", "data.block_size=1024",
                                "model.max_position_embeddings=1024")  # fmt: skip
    assert "1 sequences of 1024 tokens" in packed.stdout
    runs = [
        whole_corpus_steps(warm, conversations, "padded-1x4", 16, 4, "data.packing=padded", "launch.num_devices=1",
                           "model.max_position_embeddings=1024"),
        whole_corpus_steps(warm, conversations, "padded-2x1", 16, 8, "data.packing=padded", "deepspeed=none",
                           "model.max_position_embeddings=1024"),
    ]  # fmt: skip
    for run in runs:
        assert run.series("loss") == pytest.approx(packed.series("loss"), rel=1e-4)
        assert run.series("grad_norm") == pytest.approx(packed.series("grad_norm"), rel=1e-4)
    assert len(packed.series("loss")) == 3
    assert packed.series("loss")[-1] < packed.series("loss")[0]


# ---- by heart ----


def learn(sft: Sft, name: str, corpus: Path, *overrides: str) -> Finished:
    batch = ["launch.num_devices=1", "trainer.global_batch_size=4", "trainer.per_device_train_batch_size=4"]
    one_thread = {"OMP_NUM_THREADS": "1"}  # on a busy machine two threads mostly wait for each other
    done = sft(name, corpus, *QUIET, *batch, "deepspeed=none", *overrides, env=one_thread)
    assert done.code == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def learned(sft: Sft, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A model that was trained from scratch and knows ANSWERS."""
    corpus = write_rows(tmp_path_factory.mktemp("learned"), ANSWERS)
    return learn(sft, "by-heart", corpus, "trainer.max_steps=400", "trainer.learning_rate=3e-3")


@pytest.fixture(scope="module")
def relearned(sft: Sft, learned: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An adapter of that model that has learned NEXT_ANSWERS."""
    corpus = write_rows(tmp_path_factory.mktemp("relearned"), NEXT_ANSWERS)
    adapter = ["peft=lora", "peft.dropout=0", f"model.path={learned.run / 'model'}", *AS_IT_IS]
    return learn(sft, "by-heart-lora", corpus, *adapter, "trainer.max_steps=150", "trainer.learning_rate=5e-3")


@pytest.fixture(scope="module")
def exported(relearned: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model with the adapter merged into it."""
    directory = tmp_path_factory.mktemp("exported") / "merged"
    trainyard("export", str(relearned.run), str(directory))
    return directory


def trainyard(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainyard", *arguments], env=clean_env(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers_of(model: Path, directory: Path) -> dict[str, str]:
    """The greedy answers of a model to QUESTIONS; a mark follows an answer that the model did not end."""
    prompts = directory / "prompts.txt"
    prompts.write_text("\n".join(QUESTIONS) + "\n")
    rows = map(json.loads, trainyard("generate", str(model), "--prompts", str(prompts)).splitlines())
    return {row["prompt"]: row["response"] + " ... " * (not row["finished"]) for row in rows}


def test_a_model_that_has_learned_its_conversations_answers_and_stops(learned: Finished, tmp_path: Path) -> None:
    assert answers_of(learned.run, tmp_path) == ANSWERS


def test_an_adapter_that_has_learned_its_conversations_answers_and_stops(relearned: Finished, tmp_path: Path) -> None:
    assert not set(ANSWERS.items()) & set(NEXT_ANSWERS.items())
    assert " 16,384 trainable" in relearned.stdout  # 2 layers x r 8 x (2 x 128 + 2 x 96 + 3 x 192)
    assert answers_of(relearned.run, tmp_path) == NEXT_ANSWERS


def test_an_exported_adapter_gives_the_same_answers(exported: Path, tmp_path: Path) -> None:
    assert not list(exported.glob("adapter*"))
    assert answers_of(exported, tmp_path) == NEXT_ANSWERS


def test_what_is_saved_stops_by_itself_in_plain_transformers(learned: Finished, exported: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for directory, answers in ((learned.run / "model", ANSWERS), (exported, NEXT_ANSWERS)):
        model = AutoModelForCausalLM.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        for question, answer in answers.items():
            asked = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
            (ids,) = model.generate(**prompt, do_sample=False, max_new_tokens=40)
            assert tokenizer.decode(ids[prompt["input_ids"].shape[1] :]) == f"{answer}<|im_end|>", directory


# ---- adapters under ZeRO ----


@pytest.mark.parametrize("deepspeed", [pytest.param("zero2", marks=pytest.mark.slow), "zero3"])
def test_adapters_are_trained_alone_and_those_of_a_stopped_run_come_out_the_same(
    warm: Warm, learned: Finished, conversations: Path, deepspeed: str
) -> None:
    """LoRA on two ranks with dropout: SIGTERM comes in the fifth step, then the same command goes on."""
    from safetensors.torch import load_file

    settings = [
        "peft=lora", f"deepspeed={deepspeed}", "peft.target_modules=[q_proj, v_proj]", "trainer.global_batch_size=4",
        "tracking=none", "trainer.save_steps=100", f"model.path={learned.run / 'model'}", *AS_IT_IS,
    ]  # fmt: skip
    whole = warm(f"whole-{deepspeed}", conversations, *settings, stage="sft")
    assert whole.code == 0, whole.stdout + whole.stderr
    assert " 3,584 trainable" in whole.stdout  # 2 layers x r 8 x (64 + 64 + 64 + 32)

    name = f"stopped-{deepspeed}"
    stopped = warm(name, conversations, *settings, stage="sft", fault="stop-in-forward 1 4")
    assert stopped.code == 75, stopped.stdout + stopped.stderr
    resumed = warm(name, conversations, *settings, stage="sft")
    assert resumed.code == 0, resumed.stdout + resumed.stderr
    assert resumed.status["resumed_from"] == [5]

    ours, theirs = (load_file(run.run / "model" / "adapter_model.safetensors") for run in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert len(ours) == 8  # 2 layers x 2 projections x A and B
    assert all(tensor.any() and tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert resumed.series("loss") == whole.series("loss")
    assert not (whole.run / "model" / "model.safetensors").exists()
