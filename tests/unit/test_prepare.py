import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from conftest import make_documents

from pretrain.encode import Encoder
from trainyard.data import fingerprint, part, plans, prepare
from trainyard.data import tokenizer as tokenizers
from trainyard.data.dataset import open_datasets
from trainyard.data.prepare import Prepared, Request, Share
from trainyard.data.sources import DataError
from trainyard.data.store import TokenStore
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig, SourceConfig


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizers.train(iter(make_documents()), 400, path)
    return str(path)


def request_for(outputs: Path, file: Path, *, part_bytes: int = 1 << 20, **data: Any) -> Request:
    sources = data.pop("sources", None) or [SourceConfig(path=str(file), format="jsonl")]
    tokenizer = data.pop("tokenizer_path", None)
    config = DataConfig(sources=sources, **({"block_size": 64} | data))
    return Request(outputs, "pretrain", config, tokenizer, vocab_size=300, seed=0, part_bytes=part_bytes)


def run(request: Request, made: list[int] | None = None, **options: Any) -> Prepared:
    """Prepares; `made` gets an entry for every batch that is encoded."""

    class Counted(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            if made is not None:
                made.append(len(texts))
            return super().__call__(texts)

    prepared = prepare.prepare(request, Counted, lambda done, total: None, **options)
    assert prepared is not None
    return prepared


def tokens(prepared: Prepared) -> list[list[int]]:
    return datasets.load_from_disk(str(prepared.store))["input_ids"][:]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus.jsonl", make_documents(40))


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
    """From file to sequences: what the tokenizer gives for each text, then end-of-text, in order, nothing else."""
    reference = tokenizers.load(tokenizer_path)
    texts = EXACT + make_documents(10)
    rows = [reference(text, split_special_tokens=True)["input_ids"] + [reference.eos_token_id] for text in texts]
    file = write(tmp_path / "exact.jsonl", texts)
    where = {"tokenizer_path": tokenizer_path, "part_bytes": part_bytes}
    request = request_for(tmp_path / "out", file, packing=packing, eval_fraction=0.0, **where)
    prepared = run(request)
    assert tokens(prepared) == rows
    assert prepare.read_summary(prepared.store)["tokenizer_backend"] == "gigatoken"
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


def test_what_does_not_change_a_token_is_not_in_the_fingerprint(tmp_path: Path, corpus_file: Path) -> None:
    prepared = run(request_for(tmp_path / "out", corpus_file))
    os.utime(corpus_file, (1, 1))
    assert prepare.find(request_for(tmp_path / "out", corpus_file)) == prepared
    moved = corpus_file.rename(tmp_path / "elsewhere.jsonl")
    assert prepare.find(request_for(tmp_path / "out", moved)) == prepared


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
    summary = prepare.summarize(prepared, request)
    assert summary["sequences"] == len(plans.make(TokenStore(prepared.store), request.data, 0).train)


def test_changed_bytes_of_the_same_size_and_time_are_noticed(tmp_path: Path, corpus_file: Path) -> None:
    run(request_for(tmp_path / "out", corpus_file))
    before = corpus_file.stat()
    text = corpus_file.read_text()
    corpus_file.write_text(text.replace("the", "teh"))
    os.utime(corpus_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus_file.stat().st_size == before.st_size
    assert prepare.find(request_for(tmp_path / "out", corpus_file)) is None


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"format": "text", "document": "line"}, {"format": "text", "document": "file"}),
        ({"format": "jsonl", "columns": ["a"]}, {"format": "jsonl", "columns": ["b"]}),
        ({"format": "text"}, {"format": "jsonl"}),
    ],
    ids=str,
)
def test_how_a_source_is_read_is_in_the_fingerprint(tmp_path: Path, before: Any, after: Any) -> None:
    file = tmp_path / "rows"
    file.write_text('{"a": "x", "b": "y"}\n')

    def digest(settings: Any) -> str:
        data = DataConfig(sources=[SourceConfig(path=str(file), **settings)])
        return fingerprint.sources_digest("pretrain", data, tmp_path / "digests.json")

    assert digest(before) != digest(after)
    assert digest(before) == digest(before | {"split": "test"})  # which only the hub has


def test_files_of_a_dataset_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "a-test.parquet").write_bytes(b"x")
    data = DataConfig(sources=[SourceConfig(path=str(tmp_path), format="hub")])
    before = fingerprint.sources_digest("pretrain", data, tmp_path.parent / "digests.json")
    (tmp_path / "a-test.parquet").rename(tmp_path / "a-train.parquet")
    assert fingerprint.sources_digest("pretrain", data, tmp_path.parent / "digests.json") != before


def test_of_a_tokenizers_config_only_what_decides_ids_counts(tmp_path: Path) -> None:
    def name(stage: str, **settings: Any) -> str:
        file = tmp_path / "tokenizer_config.json"
        file.write_text(json.dumps(settings))
        return fingerprint.store_name(stage, "", [file])

    assert name("pretrain", model_max_length=1, chat_template="a") == name("pretrain", chat_template="b")
    assert name("sft", chat_template="a") != name("sft", chat_template="b")
    assert name("pretrain", add_prefix_space=True) != name("pretrain")


def test_the_plan_of_a_mixture_depends_on_shares_and_seed(tmp_path: Path, corpus_file: Path) -> None:
    def place(seed: int, **shares: float) -> Path:
        data = DataConfig(sources=[SourceConfig(path=str(corpus_file), format="jsonl", **shares)])
        return plans.directory(tmp_path, data, seed)

    assert place(1) == place(2)
    assert len({place(1), place(1, epochs=2.0), place(1, weight=1.0), place(2, epochs=2.0)}) == 4


def test_a_source_that_changes_meanwhile_is_not_published(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    original = corpus_file.read_text()

    class Changing(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            corpus_file.write_text(original.replace("the", "teh"))
            return super().__call__(texts)

    with pytest.raises(DataError, match="have changed while they were read"):
        prepare.prepare(request, Changing, lambda done, total: None)
    corpus_file.write_text(original)
    assert prepare.find(request) is None
    made: list[int] = []
    run(request, made)
    assert made == [40]


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


# ---- parts ----


def test_the_store_does_not_depend_on_how_the_work_was_divided(tmp_path: Path, corpus_file: Path) -> None:
    whole = run(request_for(tmp_path / "whole", corpus_file))
    parted = run(request_for(tmp_path / "parted", corpus_file, part_bytes=500))
    assert len(list(parted.store.glob("*.arrow"))) > 10
    assert [path.name for path in whole.store.glob("*.arrow")] == ["data-00000-of-00001.arrow"]
    assert tokens(parted) == tokens(whole)
    ours, theirs = TokenStore(parted.store), TokenStore(whole.store)
    assert np.array_equal(ours.hashes, theirs.hashes)
    assert np.array_equal(ours.lengths, theirs.lengths)
    assert ours.summary["sources"] == theirs.summary["sources"] == [{"documents": 40, "tokens": ours.num_tokens}]
    assert not list(parted.store.glob("part-*"))


def test_several_sources_are_counted_each(tmp_path: Path, corpus_file: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("one\ntwo\n")
    sources = [SourceConfig(path=str(corpus_file), format="jsonl"), SourceConfig(path=str(other), format="text")]
    summary = TokenStore(run(request_for(tmp_path / "out", corpus_file, sources=sources)).store).summary
    assert [source["documents"] for source in summary["sources"]] == [40, 2]


def _prepare_and_stop_at(request: Request, batches: int, told: Any) -> None:
    """In a process of its own: encodes so many batches, says so, and hangs in the middle of the next."""
    done = 0

    class Hanging(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            nonlocal done
            if done == batches:
                told.send("hanging")
                signal.pause()
            done += 1
            return super().__call__(texts)

    prepare.prepare(request, Hanging, lambda done, total: None)
    told.send("finished")


def _start(request: Request, batches: int) -> Any:
    """A preparation in another process that hangs in the middle of a part, after `batches` whole ones."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_prepare_and_stop_at, args=(request, batches, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == "hanging"
    return process


def test_a_killed_preparation_goes_on_from_its_finished_parts(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str
) -> None:
    where = {"tokenizer_path": tokenizer_path, "part_bytes": 500}
    undisturbed: list[int] = []
    wanted = tokens(run(request_for(tmp_path / "wanted", corpus_file, **where), undisturbed))
    assert len(undisturbed) > 10
    request = request_for(tmp_path / "out", corpus_file, **where)
    victim = _start(request, batches=4)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    assert prepare.find(request) is None  # half of it is not taken for the whole
    (half,) = (tmp_path / "out" / "prepared").glob(".*.parts")
    assert len(list(half.glob("part-*.json"))) == 4
    assert list(half.glob(".data-*.arrow"))  # the file that was being written
    made: list[int] = []
    assert tokens(run(request, made)) == wanted
    assert len(made) == len(undisturbed) - 4
    assert not half.exists()


def test_a_torn_part_is_made_anew(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    """As a machine that went down may leave it: described, and not whole on the disk."""
    where = {"tokenizer_path": tokenizer_path, "part_bytes": 500}
    request = request_for(tmp_path / "out", corpus_file, **where)
    victim = _start(request, batches=4)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    first = min((tmp_path / "out" / "prepared").glob(".*.parts/data-*.arrow"))
    first.write_bytes(first.read_bytes()[:-10])
    assert tokens(run(request)) == tokens(run(request_for(tmp_path / "whole", corpus_file, **where)))


def test_two_that_start_together_share_the_work(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    """The other holds a part and hangs; this one makes all the others, and takes over that one when it dies."""
    request = request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500)
    other = _start(request, batches=0)
    made: list[int] = []
    killed_after: list[int] = []
    number_of_parts = len(list(prepare._pieces(request)))

    class Counted(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            made.append(len(texts))
            return super().__call__(texts)

    def report(done: int, total: int) -> None:
        if len(made) == number_of_parts - 1 and other.is_alive():  # nothing left but what the other holds
            killed_after.append(len(made))
            os.kill(other.pid, signal.SIGKILL)
            other.join()

    prepared = prepare.prepare(request, Counted, report)
    assert prepared is not None
    assert killed_after == [number_of_parts - 1]
    assert len(made) == number_of_parts
    assert tokens(prepared) == tokens(run(request_for(tmp_path / "alone", corpus_file, tokenizer_path=tokenizer_path)))


@pytest.mark.parametrize("indices", [(1, 2, 3), (0, 1, 2), (3, 1, 2)])
def test_shares_make_the_whole_and_the_last_publishes(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str, indices: tuple[int, ...]
) -> None:
    request = request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500)
    made: list[int] = []
    for index in indices[:-1]:
        assert prepare.prepare(request, Encoder, lambda done, total: None, share=Share(index, 3)) is None
        assert prepare.find(request) is None
    prepared = run(request, made, share=Share(indices[-1], 3))
    assert len(made) == len(Share(indices[-1], 3).of(len(list(prepare._pieces(request)))))
    assert prepare.find(request) == prepared
    assert tokens(prepared) == tokens(run(request_for(tmp_path / "alone", corpus_file, tokenizer_path=tokenizer_path)))


def test_a_failed_preparation_is_not_taken_for_a_store(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)

    class Broken(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        prepare.prepare(request, Broken, lambda done, total: None)
    assert prepare.find(request) is None
    made: list[int] = []
    run(request, made)
    assert len(made) == 1


def test_a_fast_backend_that_goes_wrong_midway_is_replaced(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str
) -> None:
    """It is right on the sample and wrong later; what it encoded is thrown away, and the reference takes over."""
    where = {"tokenizer_path": tokenizer_path, "part_bytes": 500}
    right = run(request_for(tmp_path / "right", corpus_file, **where))
    tried: list[str] = []

    class Turncoat(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            tried.append(self.name)
            if self.name == "gigatoken" and len(tried) == 4:
                inner = self.text._fast
                assert inner is not None
                self.text._fast = lambda texts: Tokens(inner(texts).ids + 1, inner(texts).lengths)
            return super().__call__(texts)

    wrong = prepare.prepare(request_for(tmp_path / "wrong", corpus_file, **where), Turncoat, lambda done, total: None)
    assert wrong is not None
    assert tried[:5] == ["gigatoken"] * 4 + ["tokenizers"]
    assert set(tried[4:]) == {"tokenizers"}
    assert len(tried[4:]) == len(list(right.store.glob("*.arrow")))  # all parts, the three good ones too
    noted = prepare.read_summary(wrong.store)
    assert noted["tokenizer_backend"] == "tokenizers"
    assert noted["backend_reason"].startswith("gigatoken gives other ids than the tokenizer on")
    assert prepare.read_summary(right.store)["tokenizer_backend"] == "gigatoken"
    assert tokens(wrong) == tokens(right)


def test_parts_of_a_backend_that_another_process_disproves_are_made_anew(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str
) -> None:
    """The first part is made with gigatoken by a process that dies; the next one finds gigatoken wrong at its start."""
    request = request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500)
    victim = _start(request, batches=1)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()

    class Doubting(Encoder):
        def __init__(self, *args: Any, fast: bool = True):
            super().__init__(*args, fast=False)
            self.reason = "gigatoken gives other ids on this corpus"

    prepared = prepare.prepare(request, Doubting, lambda done, total: None)
    assert prepared is not None
    assert prepare.read_summary(prepared.store)["tokenizer_backend"] == "tokenizers"
    assert prepare.read_summary(prepared.store)["backend_reason"] == "gigatoken gives other ids on this corpus"


# ---- bad input ----


def bad_corpus(path: Path, good: int, bad: int) -> Path:
    lines = [json.dumps({"text": text}) for text in make_documents(good)] + ['{"text": 3}'] * bad
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_first_ten_bad_documents_are_named(tmp_path: Path) -> None:
    request = request_for(tmp_path / "out", bad_corpus(tmp_path / "bad.jsonl", 5, 30))
    with pytest.raises(DataError) as caught:
        run(request)
    problems = caught.value.problems
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in problems[:10]] == [str(n) for n in range(6, 16)]
    assert problems[10:] == ["there may be more", part.ADVICE]
    few = request_for(tmp_path / "out", bad_corpus(tmp_path / "few.jsonl", 5, 2))
    with pytest.raises(DataError) as caught:
        run(few)
    assert [str(tmp_path / "few.jsonl:6") in problem for problem in caught.value.problems] == [True, False, False]
    assert str(tmp_path / "few.jsonl:7") in caught.value.problems[1]


def test_bad_documents_are_left_out_when_asked_and_listed(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 2)
    allowed = {"on_error": "skip", "max_rejected": 0.05}
    request = request_for(tmp_path / "out", corpus, **allowed)
    prepared = run(request)
    assert prepare.find(request) == prepared
    summary = prepare.summarize(prepared, request)
    assert (summary["documents"], summary["rejected"]) == (50, 2)
    rows = [json.loads(line) for line in (prepared.store / "rejected.jsonl").read_text().splitlines()]
    assert [(row["file"], row["number"]) for row in rows] == [(str(corpus), 51), (str(corpus), 52)]
    assert rows[0]["reason"] == "column 'text' must hold text, this is int '3'"
    assert rows[0]["text"] == '{"text": 3}'
    # The same store is refused to one who wants no bad documents, or fewer.
    for stricter in ({"on_error": "stop"}, {"on_error": "skip", "max_rejected": 0.01}):
        strict = request_for(tmp_path / "out", corpus, **stricter)
        assert prepare.find(strict) is None
        with pytest.raises(DataError, match=r"bad\.jsonl:51"):
            run(strict)


def test_bad_documents_of_all_parts_are_listed(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 3)
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([lines[-1], *lines[:-1]]) + "\n")
    allowed = {"on_error": "skip", "max_rejected": 0.1, "part_bytes": 500}
    prepared = run(request_for(tmp_path / "out", corpus, **allowed))
    rows = [json.loads(line) for line in (prepared.store / "rejected.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [1, 52, 53]


def test_too_many_bad_documents_stop_a_preparation_that_skips(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 2)
    with pytest.raises(DataError) as caught:
        run(request_for(tmp_path / "out", corpus, on_error="skip"))
    assert "2 of 52 documents are bad, 3.85%; data.max_rejected=0.001 allows 0.10%" in caught.value.problems[-1]
    assert "bad.jsonl:51" in caught.value.problems[0]
    made: list[int] = []
    run(request_for(tmp_path / "out", corpus, on_error="skip", max_rejected=0.05), made)
    assert made == []  # the work was not lost


def test_damage_that_hides_documents_stops_even_when_bad_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz.*What follows cannot be read"):
        run(request_for(tmp_path / "out", tmp_path / "cut.jsonl.gz", on_error="skip", max_rejected=0.9))


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no document"):
        run(request_for(tmp_path / "out", tmp_path / "empty.jsonl"))


# ---- statistics ----


def test_the_summary_counts(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file, block_size=32, eval_fraction=0.2)
    prepared = run(request)
    summary = prepare.summarize(prepared, request)
    assert summary["documents"] == 40
    assert 0 < summary["held_out"] < 40
    held_out = plans.load(plans.directory(prepared.store, request.data, 0)).held_out
    assert summary["sequences"] * 32 + summary["tail"] + held_out.num_tokens == summary["tokens"]
    assert (summary["fill"], summary["rejected"]) == (1.0, 0)
    lengths = TokenStore(prepared.store).lengths
    rows = prepare.histogram(prepared)
    assert sum(count for _, count in rows) == 40
    for bound, count in rows:
        assert count == int(((lengths > bound // 2) & (lengths <= bound)).sum())


def test_progress_counts_bytes_up_to_all_of_them(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    seen: list[tuple[int, int]] = []
    request = request_for(tmp_path / "out", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500)
    prepare.prepare(request, Encoder, lambda done, total: seen.append((done, total)))
    size = corpus_file.stat().st_size
    assert {total for _, total in seen} == {size}
    done = [each for each, _ in seen]
    assert done == sorted(done)
    assert done[-1] == size
    assert len(set(done)) > 10


def test_overlapping_spans_count_once() -> None:
    from trainyard.data.publish import _covered

    assert _covered([[5, 6], [0, 2], [1, 3], [1, 2]]) == 4


def test_a_corpus_is_hashed_once(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    run(request)
    opened: list[Path] = []
    inner = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **kw: (opened.append(self), inner(self, *args, **kw))[1])
    cache = tmp_path / "out" / "prepared" / "digests.json"
    fingerprint.sources_digest("pretrain", request.data, cache)
    assert corpus_file not in opened
    cache.unlink()
    fingerprint.sources_digest("pretrain", request.data, cache)
    assert corpus_file in opened
