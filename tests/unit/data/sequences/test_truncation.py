"""Conversations that are too long, by every setting of data.truncation."""

from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.sequences.packing import PACKINGS
from trainyard.data.sequences.truncation import Fitted, _kept, fit
from trainyard.data.tokenization.encoded import CutPoints
from unit.stores import make_store

POINTS = CutPoints(10, [40, 70])
"""Exchanges of a conversation of 100 tokens; the first ten are the system message."""

WITHOUT_LEAD = CutPoints(None, [40, 70])


@pytest.mark.parametrize(
    ("truncation", "block", "kept"),
    [
        ("back", 75, [(0, 0, 70)]),
        ("back", 69, [(0, 0, 40)]),
        ("back", 39, []),
        ("front", 75, [(10, 40, 100)]),
        ("front", 69, [(10, 70, 100)]),
        ("front", 39, []),
        ("answer", 33, [(0, 0, 33)]),
        ("drop", 99, []),
        ("split", 75, [(0, 0, 70), (10, 70, 100)]),
        ("split", 69, [(0, 0, 40), (10, 40, 70), (10, 70, 100)]),
        ("split", 70, [(0, 0, 70), (10, 70, 100)]),
        ("split", 30, [(0, 0, 30), (10, 30, 40), (10, 40, 60), (10, 60, 70), (10, 70, 90), (10, 90, 100)]),
    ],
)
def test_whole_exchanges_are_kept(truncation: str, block: int, kept: list[tuple[int, int, int]]) -> None:
    assert _kept(POINTS, 100, block, truncation) == kept


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 20), st.integers(2, 80), st.booleans())
def test_a_divided_conversation_loses_nothing(sizes: list[int], lead: int, block: int, unknown: bool) -> None:
    """Every token but the first of an exchange is predicted in exactly one part; no part is longer than a block."""
    exchanges = list(accumulate(sizes, initial=lead))
    length = exchanges.pop()
    points = CutPoints(None if unknown else lead, exchanges[1:])
    parts = _kept(points, length, block, "split")
    assert all(head + stop - start <= block for head, start, stop in parts)
    predicted = [token for head, start, stop in parts for token in range(start if head else start + 1, stop)]
    assert len(set(predicted)) == len(predicted)
    assert set(range(length)) - set(predicted) <= {0, *points.later}


def test_nothing_is_cut_from_the_front_where_the_system_message_has_no_end_of_its_own() -> None:
    assert _kept(WITHOUT_LEAD, 100, 75, "front") == []
    assert _kept(WITHOUT_LEAD, 100, 75, "back") == [(0, 0, 70)]
    assert _kept(WITHOUT_LEAD, 100, 75, "split") == [(0, 0, 70), (0, 70, 100)]


def fitted(tmp_path: Path, truncation: str, block_size: int) -> tuple[Fitted, list[list[int]], list[list[bool]]]:
    """Two conversations: one of 4 tokens, one of a system message (90, 91) and three exchanges of 3 tokens."""
    documents = [[1, 2, 3, 4], [90, 91, 10, 11, 12, 20, 21, 22, 30, 31, 32]]
    masks = [[0, 0, 1, 1], [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]]
    store = make_store(tmp_path, documents, masks=masks, cuts=[[0], [2, 5, 8]])
    made = fit(store, np.arange(2), block_size, truncation)
    plan = made.expand(
        PACKINGS["padded"](np.arange(len(made.starts)), made.lengths + made.leads, block_size, keep_tail=True)
    )
    assert (plan.shortened, plan.dropped, plan.documents) == (made.shortened, made.dropped, 2)
    items = [TokenDataset(store, plan)[index] for index in range(len(plan))]
    assert all(item["segments"].tolist() == [len(item["input_ids"])] for item in items)  # a lead is no segment
    return made, [item["input_ids"].tolist() for item in items], [item["loss_mask"].tolist() for item in items]


@pytest.mark.parametrize(
    ("truncation", "wanted", "counts"),
    [
        ("back", [90, 91, 10, 11, 12, 20, 21, 22], (1, 0)),
        ("front", [90, 91, 20, 21, 22, 30, 31, 32], (1, 0)),
        ("answer", [90, 91, 10, 11, 12, 20, 21, 22, 30], (1, 0)),
        ("drop", None, (0, 1)),
        ("split", [90, 91, 10, 11, 12, 20, 21, 22], (1, 0)),
    ],
)
def test_what_is_left_of_a_long_conversation(
    tmp_path: Path, truncation: str, wanted: list[int] | None, counts: tuple[int, int]
) -> None:
    made, ids, learned = fitted(tmp_path, truncation, 9)
    rest = [[90, 91, 30, 31, 32]] if truncation == "split" else []
    assert ids == [[1, 2, 3, 4], *([wanted] if wanted else []), *rest]
    assert (made.shortened, made.dropped) == counts
    assert learned[0] == [False, False, True, True]
    if wanted:
        assert learned[1] == [token in (12, 22, 32) for token in wanted]


def test_a_conversation_is_never_kept_without_a_learned_token(tmp_path: Path) -> None:
    made, ids, _ = fitted(tmp_path, "answer", 4)  # its first four tokens are a system message and a question
    assert ids == [[1, 2, 3, 4]]
    assert (made.shortened, made.dropped) == (0, 1)


def test_a_conversation_that_fits_is_not_shortened(tmp_path: Path) -> None:
    made, ids, _ = fitted(tmp_path, "back", 11)
    assert len(ids[1]) == 11
    assert (made.shortened, made.dropped) == (0, 0)


@pytest.mark.parametrize("truncation", ["back", "split"])
def test_a_token_that_closes_an_answer_and_opens_the_next_exchange_is_in_both_parts(
    tmp_path: Path, truncation: str
) -> None:
    """Question 1 2, answer 3 4 that the token 5 of the next question closes; question 5 6, answer 7 8 closed by 9."""
    ids, mask = [1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 0, 1, 1, 1, 0, 1, 1, 1]
    store = make_store(tmp_path / "store", [ids], masks=[mask], cuts=[[0, 4]])
    for block, first in ((6, [1, 2, 3, 4, 5]), (4, None)):
        fitted = fit(store, np.arange(1), block, truncation)
        parts = [ids[start : start + length] for start, length in zip(fitted.starts, fitted.lengths, strict=True)]
        assert parts[0] == (first or [1, 2, 3, 4])
        assert parts[1:] == (
            [] if truncation == "back" else [[5, 6, 7, 8, 9]] if block == 6 else [[5, 6, 7, 8], [8, 9]]
        )
