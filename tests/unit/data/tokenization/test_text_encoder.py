"""Texts to ids, by gigatoken and by the reference, alone and with end-of-text as in pretraining."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED_DATA, make_documents
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import Tokenizer, normalizers, processors

from pretrain.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.tokenization import text_encoder as encoders
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.data.tokenization.encoded import Tokens
from trainyard.data.tokenization.text_encoder import TextEncoder
from trainyard.errors import BackendMismatchError

TEXTS = ["plain ASCII", "中文 文本", "emoji 🚂🚃👩‍🔬", "control \x00\x07\t\r\n", "", "x" * 20_000, *make_documents(5)]
DATA = DataConfig(sources=[])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizers.train(iter(make_documents()), 400, path)
    return path


@pytest.fixture
def tokenizer(directory: Path) -> Any:
    return tokenizers.load(str(directory))


def rows(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])]


def wanted(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """By the definition: the tokenizer's ids of plain text, then end-of-text."""
    reference = tokenizers.load(tokenizer.name_or_path)
    ids = [reference(text, split_special_tokens=True)["input_ids"] for text in texts]
    return [[*row, reference.eos_token_id] for row in ids]


@pytest.mark.parametrize("fast", [True, False])
def test_ids_are_the_tokenizers_own_and_one_end_of_text(tokenizer: Any, fast: bool) -> None:
    encoder = Encoder(tokenizer, TEXTS, DATA, fast=fast)
    assert encoder.name == ("gigatoken" if fast else "tokenizers")
    assert rows(encoder(TEXTS)) == wanted(tokenizer, TEXTS)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_any_text_at_all(directory: Path, texts: list[str]) -> None:
    tokenizer = tokenizers.load(str(directory))
    encoder = Encoder(tokenizer, TEXTS, DATA)
    assert encoder.name == "gigatoken"
    assert rows(encoder(texts)) == wanted(tokenizer, texts)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real tokenizer is not on this machine")
def test_a_real_tokenizer_on_real_text() -> None:
    tokenizer = tokenizers.load(str(SHARED_DATA / "minimind_tokenizer"))
    texts = (SHARED_DATA / "wiki_demo.txt").read_text().splitlines()[:10] + TEXTS
    encoder = Encoder(tokenizer, texts, DATA)
    assert encoder.name == "gigatoken"
    assert rows(encoder(texts)) == wanted(tokenizer, texts)


def test_every_text_comes_back(tokenizer: Any) -> None:
    encoded = rows(Encoder(tokenizer, TEXTS, DATA)(TEXTS))
    assert [tokenizer.decode(ids[:-1]) for ids in encoded] == TEXTS


def test_text_that_spells_a_special_token_stays_text_unless_allowed(tokenizer: Any) -> None:
    texts = ["a<|endoftext|>b<|im_end|>", "plain", "<|im_start|>"]
    im_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    encoder = Encoder(tokenizer, TEXTS, DATA)
    assert encoder.name == "gigatoken"
    assert rows(encoder(texts)) == wanted(tokenizer, texts)
    assert im_end not in encoder(texts).ids
    allowed = DataConfig(sources=[], allow_special_tokens=True)
    (first, *_) = rows(Encoder(tokenizers.load(tokenizer.name_or_path), TEXTS, allowed)(texts))
    assert first.count(tokenizer.eos_token_id) == 2
    assert im_end in first


def test_end_of_text_can_be_left_out(tokenizer: Any) -> None:
    without = Encoder(tokenizer, TEXTS, DataConfig(sources=[], end_of_text=False))
    assert rows(without(TEXTS)) == [ids[:-1] for ids in wanted(tokenizer, TEXTS)]


def test_a_begin_of_text_token_is_put_where_the_tokenizer_puts_it(directory: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.load(str(directory))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))]
    )
    tokenizer.save_pretrained(tmp_path)
    loaded = tokenizers.load(str(tmp_path))
    assert loaded("a")["input_ids"][0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    encoder = Encoder(loaded, TEXTS, DATA)
    assert encoder.name == "gigatoken"
    assert rows(encoder(TEXTS)) == wanted(loaded, TEXTS)


def test_a_tokenizer_that_gigatoken_refuses_goes_to_the_reference(directory: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.load(str(directory))
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.save_pretrained(tmp_path)
    loaded = tokenizers.load(str(tmp_path))
    encoder = Encoder(loaded, TEXTS, DATA)
    assert encoder.name == "tokenizers"
    assert "gigatoken" in encoder.reason
    assert rows(encoder(TEXTS)) == wanted(loaded, TEXTS)


def test_a_backend_that_differs_on_the_sample_is_not_used(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    other.encode_special_tokens = True

    def off_by_one(texts: list[str]) -> Tokens:
        return Tokens.join([other.encode(text[1:]).ids for text in texts])

    monkeypatch.setattr("trainyard.data.tokenization.text_encoder._gigatoken", lambda *_: off_by_one)
    encoder = TextEncoder(tokenizer, ["some text"])
    assert encoder.name == "tokenizers"
    assert encoder.reason == "gigatoken gives other ids on this corpus, first on 'some text'"


def test_gigatoken_that_fails_is_replaced(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, TEXTS)

    def failing(texts: list[str]) -> Tokens:
        raise AttributeError("'list' object has no attribute 'layout'")

    encoder._fast = failing
    with pytest.raises(BackendMismatchError, match="gigatoken failed on this corpus"):
        encoder(["some text"])


def test_a_corpus_that_spells_special_tokens_everywhere_is_left_to_the_reference(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, ["<|im_start|>user", "<|im_end|>", "plain"])
    assert (encoder.name, encoder.reason.partition(",")[0]) == ("tokenizers", "most documents spell special tokens")


def test_a_difference_during_the_run_is_noticed(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, TEXTS)
    inner = encoder._fast
    assert inner is not None
    encoder._fast = lambda texts: Tokens(inner(texts).ids + 1, inner(texts).lengths)
    with pytest.raises(BackendMismatchError, match="some text"):
        encoder(["some text"])


def test_gigatoken_starts_anew_before_its_cache_grows_too_large(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    inner = encoders._gigatoken
    monkeypatch.setattr(encoders, "_gigatoken", lambda *given: made.append(1) or inner(*given))
    monkeypatch.setattr(encoders, "RENEW_CHARACTERS", 100)
    encoder = Encoder(tokenizer, TEXTS, DATA)
    for _ in range(6):
        assert rows(encoder(["x" * 40])) == wanted(tokenizer, ["x" * 40])
    assert len(made) == 1 + 2


@pytest.mark.parametrize("kind", KINDS)
def test_documents_by_any_kind_of_tokenizer(kind: str) -> None:
    """Some put a space before the first word of each document; 鱻 is in no vocabulary."""
    tokenizer = small_tokenizer(kind)
    texts = [*TEXTS, " yard", "鱻", "\n\nyard 🫠"]
    for fast in (True, False):
        encoder = Encoder(tokenizer, texts, DATA, fast=fast)
        assert encoder.name == ("gigatoken" if fast and kind not in ("unigram", "t5") else "tokenizers")
        ids = [tokenizer(text)["input_ids"] for text in texts]
        assert rows(encoder(texts)) == [
            row if row[-1:] == [tokenizer.eos_token_id] else [*row, tokenizer.eos_token_id] for row in ids
        ]
        (spelled,) = rows(encoder(["a</s> <|im_end|>"]))
        special = {n for n, token in tokenizer.added_tokens_decoder.items() if token.special} - {tokenizer.unk_token_id}
        assert [token for token in spelled if token in special] == [tokenizer.eos_token_id]
