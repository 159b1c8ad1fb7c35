"""From sources to a store: every token once, and the same inputs found again."""

from pathlib import Path
from typing import Any

import pytest
from conftest import make_documents

from pretrain.encode import Encoder
from trainyard.config.schema import SourceConfig
from trainyard.data.batches.dataset import open_datasets
from trainyard.data.preparation import prepare
from trainyard.data.preparation.summary import summarize
from trainyard.data.sequences import plans
from trainyard.data.store import StoreSummary, TokenStore
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.data.tokenization.encoded import Tokens
from trainyard.errors import DataError
from unit.preparing import request_for, run, tokens, write

# ---- exact ----

EXACT = [
    "plain ASCII",
    "中文 文本，训练",
    "emoji 🚂🚃👩‍🔬🏳️‍🌈",
    "control \x00\x07\t\r\n\x1b[0m \u2028 \u200b \ufeff",
    "one very long line " * 20_000,
    "x" * 100_000,
    " leading and trailing \n\n",
    "<|endoftext|> spelled, <|im_start|> too",
    "\N{COMBINING ACUTE ACCENT}e\u0301 é",
]


@pytest.mark.parametrize("part_bytes", [1 << 20, 300])
@pytest.mark.parametrize("packing", ["concat", "best_fit", "padded"])
def test_every_token_of_the_reference_is_trained_on_once(
    tmp_path: Path, tokenizer_path: str, packing: str, part_bytes: int
) -> None:
    """From file to sequences: the tokenizer's ids of each text, then end-of-text, in order, nothing else."""
    reference = tokenizers.load(tokenizer_path)
    texts = EXACT + make_documents(10)
    rows = [reference(text, split_special_tokens=True)["input_ids"] + [reference.eos_token_id] for text in texts]
    file = write(tmp_path / "exact.jsonl", texts)
    where = {"tokenizer_path": tokenizer_path, "part_bytes": part_bytes}
    request = request_for(tmp_path / "out", file, packing=packing, eval_fraction=0.0, **where)
    prepared = run(request)
    assert tokens(prepared) == rows
    assert StoreSummary.read(prepared.store).tokenizer_backend == "gigatoken"
    dataset = open_datasets(prepared.store, request.data, seed=0).train
    seen = [dataset[index]["input_ids"].tolist() for index in range(len(dataset))]
    wanted = [token for row in rows for token in row]
    flat = [token for sequence in seen for token in sequence]
    if packing == "best_fit":
        assert sorted(flat) == sorted(wanted)
    else:
        assert flat == wanted[: len(wanted) - dataset.plan.tail]
    assert len(flat) + dataset.plan.tail == len(wanted)
    assert dataset.plan.tail < 64


def test_ids_with_gaps_take_the_type_that_holds_the_largest(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "z": 70_000, "<eos>": 70_001}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    sparse = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="[UNK]")
    sparse.save_pretrained(tmp_path / "sparse")
    file = write(tmp_path / "rows.jsonl", ["a z", "z a b"])
    prepared = run(request_for(tmp_path / "out", file, tokenizer_path=str(tmp_path / "sparse")))
    assert tokens(prepared) == [[0, 70_000, 70_001], [70_000, 0, 1, 70_001]]


def test_several_sources_are_counted_each(tmp_path: Path, corpus_file: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("one\ntwo\n")
    sources = [SourceConfig(path=str(corpus_file), format="jsonl"), SourceConfig(path=str(other), format="text")]
    summary = TokenStore(run(request_for(tmp_path / "out", corpus_file, sources=sources)).store).summary
    assert [source.documents for source in summary.sources] == [40, 2]


# ---- found again ----


def test_the_same_inputs_are_found_and_prepared_once(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    assert prepare.find(request) is None
    prepared = run(request)
    assert prepare.find(request) == prepared
    made_again: list[int] = []
    stamp = prepared.store.stat().st_mtime_ns
    assert run(request, made_again) == prepared
    assert made_again == []
    assert prepared.store.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change",
    [
        {"block_size": 17},
        {"packing": "best_fit"},
        {"packing": "padded"},
        {"eval_fraction": 0.3},
        {"isolate_documents": True},
        {"sources": {"weight": 2.0, "epochs": 3.0}},
    ],
    ids=str,
)
def test_another_plan_needs_no_new_tokens(tmp_path: Path, corpus_file: Path, change: dict[str, Any]) -> None:
    prepared = run(request_for(tmp_path / "out", corpus_file))
    made: list[int] = []
    if "sources" in change:
        change = {"sources": [SourceConfig(path=str(corpus_file), format="jsonl", **change["sources"])]}
    request = request_for(tmp_path / "out", corpus_file, **change)
    assert run(request, made) == prepared
    assert made == []
    assert prepare.find(request) == prepared  # and from now on its plan is there too
    summary = summarize(prepared, request)
    assert summary["sequences"] == len(plans.make(TokenStore(prepared.store), request.data, 0).train)


def test_settings_that_change_a_token_prepare_anew(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    first = run(request_for(tmp_path / "out", corpus_file))
    without = run(request_for(tmp_path / "out", corpus_file, end_of_text=False))
    assert TokenStore(first.store).num_tokens == TokenStore(without.store).num_tokens + 40
    others = [
        run(request_for(tmp_path / "out", corpus_file, allow_special_tokens=True)),
        run(request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path)),
        run(request_for(tmp_path / "out", corpus_file, max_document_mb=1.0)),
    ]
    assert len({each.store for each in [first, without, *others]}) == 5


def test_a_source_that_changes_meanwhile_is_not_published(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    original = corpus_file.read_text()

    class Changing(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            corpus_file.write_text(original.replace("the", "teh"))
            return super().__call__(texts)

    with pytest.raises(DataError, match="have changed while they were read"):
        run(request, encoder=Changing)
    corpus_file.write_text(original)
    assert prepare.find(request) is None
    made: list[int] = []
    run(request, made)
    assert made == [40]


def test_a_failed_preparation_is_not_taken_for_a_store(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)

    class Broken(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        run(request, encoder=Broken)
    assert prepare.find(request) is None
    made: list[int] = []
    run(request, made)
    assert len(made) == 1


# ---- progress ----


def test_progress_counts_bytes_up_to_all_of_them(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    seen: list[tuple[int, int]] = []
    request = request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500)
    run(request, report=lambda done, total: seen.append((done, total)))
    size = corpus_file.stat().st_size
    assert {total for _, total in seen} == {size}
    done = [each for each, _ in seen]
    assert done == sorted(done)
    assert done[-1] == size
    assert len(set(done)) > 10
