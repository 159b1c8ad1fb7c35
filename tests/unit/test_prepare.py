import os
from pathlib import Path
from typing import Any

import pytest
from conftest import make_documents

from pretrain.encode import Encoder
from trainyard.data import prepare
from trainyard.data.prepare import Prepared, Request
from trainyard.data.sources import DataError
from trainyard.data.store import TokenStore
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig, SourceConfig


def request_for(outputs: Path, file: Path, **data: Any) -> Request:
    sources = [SourceConfig(path=str(file), format="text")]
    return Request(outputs, "pretrain", DataConfig(sources=sources, **data), tokenizer_path=None, vocab_size=300)


def run(request: Request, made: list[int] | None = None) -> Prepared:
    def make(*args: Any, **kwargs: Any) -> Encoder:
        if made is not None:
            made.append(1)
        return Encoder(*args, **kwargs)

    return prepare.prepare(request, make, lambda count, characters: None)


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(make_documents(20)))
    return path


def test_the_same_inputs_are_found_and_prepared_once(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    assert prepare.find(request) is None
    prepared = run(request)
    assert prepare.find(request) == prepared
    made_again: list[int] = []
    stamp = prepared.store.stat().st_mtime_ns
    run(request, made_again)
    assert made_again == []
    assert prepared.store.stat().st_mtime_ns == stamp


def test_what_does_not_change_a_token_is_not_in_the_fingerprint(tmp_path: Path, corpus_file: Path) -> None:
    prepared = run(request_for(tmp_path / "out", corpus_file))
    os.utime(corpus_file, (1, 1))
    assert prepare.find(request_for(tmp_path / "out", corpus_file, block_size=17, eval_fraction=0.3)) == prepared
    moved = corpus_file.rename(tmp_path / "elsewhere.txt")
    assert prepare.find(request_for(tmp_path / "out", moved)) == prepared


def test_changed_bytes_of_the_same_size_and_time_are_noticed(tmp_path: Path, corpus_file: Path) -> None:
    run(request_for(tmp_path / "out", corpus_file))
    before = corpus_file.stat()
    text = corpus_file.read_text()
    corpus_file.write_text("X" + text[1:])
    os.utime(corpus_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus_file.stat().st_size == before.st_size
    assert prepare.find(request_for(tmp_path / "out", corpus_file)) is None


def test_a_failed_preparation_leaves_nothing_behind(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file)

    class Broken(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        prepare.prepare(request, Broken, lambda count, characters: None)
    assert [path for path in (tmp_path / "out" / "prepared").iterdir() if path.is_dir()] == []


def test_a_fast_backend_that_goes_wrong_midway_is_replaced(tmp_path: Path, corpus_file: Path) -> None:
    """It is right on the sample and wrong later; what it encoded is thrown away, and the reference takes over."""
    right = run(request_for(tmp_path / "right", corpus_file))
    tried: list[bool] = []

    class Turncoat(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            tried.append(self.name == "gigatoken")
            if self.name == "gigatoken":
                inner = self.text._fast
                assert inner is not None
                self.text._fast = lambda texts: Tokens(inner(texts).ids + 1, inner(texts).lengths)
            return super().__call__(texts)

    wrong = prepare.prepare(request_for(tmp_path / "wrong", corpus_file), Turncoat, lambda count, characters: None)
    assert tried == [True, False]
    assert prepare.read_summary(wrong)["tokenizer_backend"] == "tokenizers"
    assert prepare.read_summary(right)["tokenizer_backend"] == "gigatoken"
    assert TokenStore(wrong.store).read(0, 500).tolist() == TokenStore(right.store).read(0, 500).tolist()


def test_settings_that_change_a_token_prepare_anew(tmp_path: Path, corpus_file: Path) -> None:
    first = run(request_for(tmp_path / "out", corpus_file))
    without = run(request_for(tmp_path / "out", corpus_file, end_of_text=False))
    assert without.store != first.store
    assert TokenStore(first.store).num_tokens == TokenStore(without.store).num_tokens + 20


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="no document"):
        run(request_for(tmp_path / "out", tmp_path / "empty.txt"))


def test_the_summary_counts(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file, block_size=32, eval_fraction=0.2)
    summary = prepare.summarize(run(request), request.data)
    assert summary["documents"] == 20
    assert 0 < summary["held_out"] < 20
    assert 0 <= summary["tail"] < 32
    assert summary["sequences"] * 32 + summary["tail"] < summary["tokens"]
