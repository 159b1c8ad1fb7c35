"""The encoder of a corpus: gigatoken until a process finds that it is wrong, then the reference for all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pretrain.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.preparation.chosen_encoder import ChosenEncoder
from trainyard.data.store import StoreSummary
from trainyard.data.tokenization.encoded import Tokens
from unit.preparing import request_for, run, tokens

MADE: list[tuple[list[str], bool]] = []


class Counting:
    """The samples and the choices with which it was made go to MADE."""

    def __init__(self, tokenizer: Any, sample: Sequence[Any], data: DataConfig, *, fast: bool = True):
        MADE.append((list(sample), fast))
        self.name = "gigatoken" if fast else "tokenizers"
        self.reason = "gives the same ids" if fast else "asked for"

    def __call__(self, documents: list[Any]) -> Tokens:
        return Tokens.join([[len(document)] for document in documents])


@pytest.fixture(autouse=True)
def made() -> list[tuple[list[str], bool]]:
    MADE.clear()
    return MADE


def chosen(directory: Path, make: Any = Counting) -> ChosenEncoder:
    return ChosenEncoder(directory, make, None, DataConfig(sources=[]))


def test_the_first_documents_are_the_sample_on_which_it_is_chosen(tmp_path: Path, made: list[Any]) -> None:
    encoder = chosen(tmp_path)
    assert (encoder.name, encoder.reason) == ("none", "")
    assert [encoder(documents).ids.tolist() for documents in (["a", "bc"], ["def"])] == [[1, 2], [3]]
    assert made == [(["a", "bc"], True)]
    assert (encoder.name, encoder.reason) == ("gigatoken", "gives the same ids")
    assert encoder.trusts("gigatoken") and encoder.trusts("tokenizers")


def test_what_one_process_disproves_all_leave(tmp_path: Path, made: list[Any]) -> None:
    ours, theirs = chosen(tmp_path), chosen(tmp_path)
    for encoder in (ours, theirs):
        encoder(["a"])
    theirs.disprove("other ids on 'b'")
    assert theirs.name == "none"
    assert not ours.trusts("gigatoken") and ours.trusts("tokenizers")
    ours.renew()
    for encoder in (ours, theirs):
        encoder(["b"])
        assert (encoder.name, encoder.reason) == ("tokenizers", "other ids on 'b'")
    assert made == [(["a"], True)] * 2 + [(["b"], False)] * 2
    ours.renew()
    ours(["c"])
    assert len(made) == 4


def test_an_encoder_that_does_not_choose_gigatoken_says_so_to_all(tmp_path: Path) -> None:
    class Doubting(Counting):
        def __init__(self, *given: Any, fast: bool = True):
            super().__init__(*given, fast=False)
            self.reason = "gigatoken refuses this tokenizer"

    encoder = chosen(tmp_path, Doubting)
    encoder(["a"])
    assert encoder.reason == "gigatoken refuses this tokenizer"
    assert encoder.disproved.read_text() == "gigatoken refuses this tokenizer"
    other = chosen(tmp_path)
    other(["a"])
    assert (other.name, other.reason) == ("tokenizers", "gigatoken refuses this tokenizer")


def test_a_fast_backend_that_goes_wrong_midway_is_replaced(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str
) -> None:
    """It is right on the sample and wrong later; what it encoded is thrown away, and the reference takes over."""
    right = run(request_for(tmp_path / "right", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500))
    tried: list[str] = []

    class Turncoat(Encoder):
        def __call__(self, texts: list[str]) -> Any:
            tried.append(self.name)
            if self.name == "gigatoken" and len(tried) == 4:
                inner = self.text._fast
                assert inner is not None
                self.text._fast = lambda texts: Tokens(inner(texts).ids + 1, inner(texts).lengths)
            return super().__call__(texts)

    wrong = run(
        request_for(tmp_path / "wrong", corpus_file, tokenizer_path=tokenizer_path, part_bytes=500), encoder=Turncoat
    )
    assert tried[:5] == ["gigatoken"] * 4 + ["tokenizers"]
    assert set(tried[4:]) == {"tokenizers"}
    assert len(tried[4:]) == len(list(right.store.glob("*.arrow")))  # all parts, the three good ones too
    noted = StoreSummary.read(wrong.store)
    assert noted.tokenizer_backend == "tokenizers"
    assert noted.backend_reason.startswith("gigatoken gives other ids than the tokenizer on")
    assert StoreSummary.read(right.store).tokenizer_backend == "gigatoken"
    assert tokens(wrong) == tokens(right)
