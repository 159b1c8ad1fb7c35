"""The tokenizer of a preparation: named, trained on the corpus, or either with further tokens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_documents

from trainyard.config.schema import SourceConfig
from trainyard.data.preparation import chosen_tokenizer
from trainyard.data.preparation.request import DataRequest
from trainyard.data.tokenization import tokenizer as tokenizers
from unit.preparing import request_for

DIGEST = "d1"
ADDED = ({"content": "<word>", "special": False},)


def test_a_tokenizer_that_is_named_is_taken(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    request = request_for(tmp_path, corpus_file, tokenizer_path=tokenizer_path)
    assert chosen_tokenizer.expected(request, DIGEST) == chosen_tokenizer.made(request, DIGEST) == tokenizer_path
    assert not (tmp_path / "tokenizers").exists()


def test_another_is_trained_once_for_a_corpus_and_a_size(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[list[str], int]] = []

    def train(texts: Any, vocab_size: int, directory: Path) -> None:
        trained.append((list(texts), vocab_size))
        directory.mkdir(parents=True)

    monkeypatch.setattr(tokenizers, "train", train)
    request = request_for(tmp_path / "out", corpus_file)
    where = chosen_tokenizer.expected(request, DIGEST)
    assert Path(where).parent == tmp_path / "out" / "tokenizers"
    assert not Path(where).exists()
    assert [chosen_tokenizer.made(request, DIGEST) for _ in range(2)] == [where, where]
    assert trained == [(make_documents(40), 300)]
    others = [
        chosen_tokenizer.expected(request, "d2"),
        chosen_tokenizer.expected(replace(request, vocab_size=301), DIGEST),
    ]
    assert len({where, *others}) == 3


def test_a_tokenizer_is_trained_on_what_is_said_in_conversations(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "Hi", "output": "Hello"}\n{"instruction": 1}\n')
    request = request_for(tmp_path, file, sources=[SourceConfig(path=str(file), format="alpaca")])
    assert list(chosen_tokenizer._texts(request)) == ["Hi\nHello"]


def test_further_tokens_make_another_tokenizer(tmp_path: Path, corpus_file: Path, tokenizer_path: str) -> None:
    plain = request_for(tmp_path, corpus_file, tokenizer_path=tokenizer_path)
    request: DataRequest = replace(plain, add_tokens=ADDED)
    where = chosen_tokenizer.expected(request, DIGEST)
    assert Path(where).parent == tmp_path / "tokenizers"
    assert not Path(where).exists()
    assert [chosen_tokenizer.made(request, DIGEST) for _ in range(2)] == [where, where]
    longer, shorter = tokenizers.load(where), tokenizers.load(tokenizer_path)
    assert len(longer) == len(shorter) + 1
    assert longer.convert_tokens_to_ids("<word>") == len(shorter)
