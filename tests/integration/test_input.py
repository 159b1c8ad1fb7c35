"""The user's own text, tokenizer and model."""

import json
from pathlib import Path

import datasets
import pytest
from conftest import SHARED_DATA, Finished, Pretrain

WIKI = SHARED_DATA / "wiki_demo.txt"
needs_wiki = pytest.mark.skipif(not WIKI.exists(), reason="the encyclopedia sample is not on this machine")


@pytest.fixture(scope="module")
def wiki_run(pretrain: Pretrain) -> Finished:
    done = pretrain(
        "wiki",
        f"data.sources=[{{path: '{WIKI}', format: text}}]",
        f"tokenizer.path={SHARED_DATA / 'minimind_tokenizer'}",
    )
    assert done.code == 0, done.stdout + done.stderr
    return done


@needs_wiki
def test_real_text_with_a_real_tokenizer(wiki_run: Finished, tmp_path: Path, pretrain: Pretrain) -> None:
    from transformers import AutoTokenizer

    from trainyard.config.saved import load

    prepared = Path(str(load(wiki_run.run / "config.yaml").data.prepared))
    tokenizer = AutoTokenizer.from_pretrained(SHARED_DATA / "minimind_tokenizer")
    texts = [line.rstrip("\n") for line in WIKI.read_text().splitlines(keepends=True) if line.strip()]
    rows = datasets.load_from_disk(str(prepared))
    assert len(rows) == len(texts) == 30
    for row, text in zip(rows, texts, strict=True):
        assert row["input_ids"] == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert wiki_run.status["final"]["loss"] < wiki_run.status["final"]["first_loss"]


@needs_wiki
def test_the_same_documents_as_jsonl_give_the_same_tokens_and_the_model_trains_on(
    wiki_run: Finished, tmp_path: Path, pretrain: Pretrain
) -> None:
    """One launch tests both: it trains the model of the first run on the same text as gzipped JSONL."""
    import gzip

    from trainyard.config.saved import load

    texts = [line for line in WIKI.read_text().split("\n") if line.strip()]
    jsonl = tmp_path / "wiki.jsonl.gz"
    jsonl.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode()))
    sources = f"data.sources=[{{path: '{jsonl}', format: jsonl}}]"
    architecture = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    unset = [f"model.{name}=null" for name in [*architecture, "num_key_value_heads", "max_position_embeddings"]]
    done = pretrain("continued", sources, f"model.path={wiki_run.run / 'model'}", *unset)
    assert done.code == 0, done.stdout + done.stderr
    ours, theirs = (Path(str(load(run.run / "config.yaml").data.prepared)) for run in (done, wiki_run))
    assert ours != theirs  # other bytes are prepared anew
    assert datasets.load_from_disk(str(ours))["input_ids"][:] == datasets.load_from_disk(str(theirs))["input_ids"][:]
    before, after = wiki_run.status["final"]["eval_loss"], done.status["final"]["first_eval_loss"]
    assert after == pytest.approx(before, rel=1e-5)  # the run starts where the other ended
    assert done.status["final"]["eval_loss"] < before


def test_the_best_model_is_kept_and_a_run_that_gets_worse_stops(pretrain: Pretrain) -> None:
    """Early stopping, epochs and the best model at the end, with gradient checkpointing, eager attention and data
    workers."""
    done = pretrain(
        "worse",
        "trainer.num_train_epochs=50",
        "trainer.max_steps=-1",
        "trainer.learning_rate=0.3",  # so high that every evaluation after the first is worse
        "trainer.eval_steps=2",
        "trainer.save_steps=2",
        "trainer.save_total_limit=1",
        "trainer.early_stopping_patience=2",
        "trainer.load_best_model_at_end=true",
        "trainer.gradient_checkpointing=true",
        "trainer.dataloader_num_workers=1",
        "trainer.lr_scheduler_kwargs={num_cycles: 1}",
        "model.attn_implementation=eager",
        "tracking=none",
    )
    assert done.code == 0, done.stdout + done.stderr
    assert done.status["state"] == "finished"
    evaluated = {row["step"]: row["eval_loss"] for row in done.metrics if row.get("step") and "eval_loss" in row}
    best = min(evaluated, key=lambda step: evaluated[step])
    assert done.status["step"] == best + 4 < done.status["max_steps"]  # two evaluations later
    from safetensors.torch import load_file

    kept = load_file(done.run / "checkpoints" / f"checkpoint-{best}" / "model.safetensors")
    assert all(done.weights[name].equal(tensor) for name, tensor in kept.items())


def test_one_long_document_trains_without_evaluation(pretrain: Pretrain, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("all the words of one book " * 500)
    source = f"data.sources=[{{path: '{tmp_path / 'book.txt'}', format: text, document: file}}]"
    done = pretrain("book", source, "trainer.max_steps=2", "deepspeed=none", "launch.num_devices=1", "tracking=none")
    assert done.code == 0, done.stdout + done.stderr
    assert done.series("eval_loss") == []
    assert len(done.series("loss")) == 2
