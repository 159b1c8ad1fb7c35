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

    from trainyard.config import load

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
    """One launch for both: the same text as gzipped JSONL, on top of the model that the first run wrote."""
    import gzip

    from trainyard.config import load

    texts = [line for line in WIKI.read_text().split("\n") if line.strip()]
    jsonl = tmp_path / "wiki.jsonl.gz"
    jsonl.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode()))
    sources = f"data.sources=[{{path: '{jsonl}', format: jsonl}}]"
    architecture = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    unset = [f"model.{name}=null" for name in [*architecture, "num_key_value_heads", "max_position_embeddings"]]
    done = pretrain("continued", sources, f"model.path={wiki_run.run / 'model'}", *unset)
    assert done.code == 0, done.stdout + done.stderr
    ours, theirs = (Path(str(load(run.run / "config.yaml").data.prepared)) for run in (done, wiki_run))
    assert ours != theirs  # other bytes, so prepared anew
    assert datasets.load_from_disk(str(ours))["input_ids"][:] == datasets.load_from_disk(str(theirs))["input_ids"][:]
    before, after = wiki_run.status["final"]["eval_loss"], done.status["final"]["first_eval_loss"]
    assert after == pytest.approx(before, rel=1e-5)  # it starts where the other ended
    assert done.status["final"]["eval_loss"] < before


def test_trainer_features_together(pretrain: Pretrain) -> None:
    """Early stopping, gradient checkpointing, eager attention, epochs, the best model at the end, data workers."""
    done = pretrain(
        "features",
        "deepspeed=none",
        "trainer.max_steps=-1",
        "trainer.num_train_epochs=50",
        "trainer.learning_rate=1e-9",  # nothing improves, so the patience runs out
        "trainer.eval_steps=2",
        "trainer.save_steps=2",
        "trainer.save_total_limit=1",
        "trainer.early_stopping_patience=2",
        "trainer.early_stopping_threshold=0.1",
        "trainer.load_best_model_at_end=true",
        "trainer.gradient_checkpointing=true",
        "trainer.dataloader_num_workers=1",
        "trainer.lr_scheduler_kwargs={num_cycles: 1}",
        "model.attn_implementation=eager",
        "tracking=none",
    )
    assert done.code == 0, done.stdout + done.stderr
    assert done.status["state"] == "finished"
    assert done.status["step"] < done.status["max_steps"]
    assert (done.run / "model" / "model.safetensors").exists()
