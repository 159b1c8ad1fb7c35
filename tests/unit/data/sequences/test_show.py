"""Training sequences as text: where the passages come from, and which tokens are special and learned."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from trainyard.config.schema import Config, SourceConfig
from trainyard.data.sequences import show
from trainyard.data.sequences.order import sample_indices
from trainyard.data.sequences.show import Passage
from trainyard.data.store import SourceCounts, TokenStore
from unit.stores import make_store

DOCUMENTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
MASKS = [[0, 1, 1], [0, 1], [1, 1, 1, 1]]


class Letters:
    """A tokenizer of the letters a, b, c for 1, 2, 3, with <end> for 9; 20 and 21 are the halves of é, 7 is a bell."""

    all_special_ids = (9,)

    def get_added_vocab(self) -> dict[str, int]:
        return {"<end>": 9}

    def convert_ids_to_tokens(self, token: int) -> str:
        return {9: "<end>"}[token]

    def decode(self, ids: list[int]) -> str:
        known = {(20,): "\ufffd", (20, 21): "é", (7,): "\x07"}
        return known.get(tuple(ids)) or "".join(chr(96 + token) for token in ids)


@pytest.fixture
def config() -> Config:
    config = Config(stage="pretrain")
    config.data.sources = [SourceConfig(path=path, format="text") for path in ("first.txt", "second.txt")]
    return config


def store(directory: Path, masks: list[list[int]] | None = None) -> TokenStore:
    """Three documents, two of the first source and one of the second."""
    made = make_store(directory, DOCUMENTS, masks=masks, cuts=[[0]] * 3 if masks else None)
    made.summary.sources[:] = [SourceCounts(2, 5), SourceCounts(1, 4)]
    return made


def test_the_passages_of_a_sequence(tmp_path: Path, config: Config) -> None:
    assert show.passages(store(tmp_path), [(1, 3), (3, 5), (5, 8)], config) == [
        Passage(0, "first.txt", 1, 2, 3, [2, 3], [True, True]),
        Passage(1, "first.txt", 0, 2, 2, [4, 5], [True, True]),
        Passage(2, "second.txt", 0, 3, 4, [6, 7, 8], [True, True, True]),
    ]
    assert show.passages(store(tmp_path / "masked", MASKS), [(0, 3)], config) == [
        Passage(0, "first.txt", 0, 3, 3, [1, 2, 3], [False, True, True]),
    ]


def test_where_a_passage_comes_from() -> None:
    whole = Passage(1, "first.txt", 0, 2, 2, [4, 5], [True, True])
    part = Passage(1234, "first.txt", 2000, 2, 9999, [4, 5], [True, True])
    assert whole.title() == "document 1 of first.txt, whole: 2 tokens"
    assert part.title() == "document 1,234 of first.txt, tokens 2,000 to 2,001 of 9,999"
    assert part.place() == {
        "document": 1234, "source": "first.txt", "first": 2000, "length": 2, "document_length": 9999,
    }  # fmt: skip


@pytest.mark.parametrize(("ids", "mask", "text"), [
    ([1, 2, 9], [1, 1, 1], "ab<end>"),
    ([1, 2, 3, 9, 1], [0, 1, 1, 1, 0], "a⟦bc<end>⟧a"),
    ([2, 1], [0, 1], "b⟦a⟧"),
    ([1, 7, 1], [1, 1, 1], "a\u2407a"),
    ([20, 21, 1], [1, 1, 1], "éa"),
    ([20, 9], [1, 1], "\ufffd<end>"),
])  # fmt: skip
def test_tokens_as_text_with_marks_where_learning_begins_and_ends(ids: list[int], mask: list[int], text: str) -> None:
    passage = Passage(0, "a.txt", 0, len(ids), len(ids), ids, [bool(flag) for flag in mask])
    assert show._spelled(Letters(), passage, marked=True).plain == text


def test_a_passage_is_printed_with_what_it_attends_to() -> None:
    passage = Passage(0, "a.txt", 0, 2, 2, [1, 2], [False, True])

    def printed(**how: Any) -> str:
        output = Console(width=120, color_system=None, force_terminal=False)
        with output.capture() as captured:
            show.print_passage(output, Letters(), passage, **how)
        return captured.get()

    title = "── document 0 of a.txt, whole: 2 tokens, 1 of them learned"
    assert printed(isolated=False, inner=False) == f"{title}\na⟦b⟧\n"
    assert printed(isolated=False, inner=True) == f"{title}; sees what is before it\na⟦b⟧\n"
    assert printed(isolated=True, inner=True) == f"{title}; attention starts anew\na⟦b⟧\n"


def test_the_example_of_a_run_is_its_first_sequence(tmp_path: Path, config: Config) -> None:
    first = int(sample_indices(np.arange(1), 3, config.run.seed)[0])
    spans = [[(0, 2)]] * 3
    spans[first] = [(2, 3), (5, 6)]

    class Dataset:
        def __init__(self) -> None:
            self.store = store(tmp_path, MASKS)
            self.plan = SimpleNamespace(spans=spans.__getitem__)

        def __len__(self) -> int:
            return len(spans)

    assert show.example(Dataset(), Letters(), config) == (
        "── document 0 of first.txt, tokens 2 to 2 of 3\nc\n\n── document 2 of second.txt, tokens 0 to 0 of 4\nf"
    )
