from pathlib import Path

import numpy as np
import pytest
from test_store import make_store

from trainyard.data.dataset import TokenDataset
from trainyard.data.plan import PACKINGS
from trainyard.data.truncation import Fitted, _shortened, fit

CUTS = [10, 40, 70]
"""Exchanges of a conversation of 100 tokens; the first ten are the system message."""


@pytest.mark.parametrize(
    ("truncation", "block", "kept"),
    [
        ("back", 75, (0, 0, 70)),
        ("back", 69, (0, 0, 40)),
        ("back", 39, (0, 0, 0)),
        ("front", 75, (10, 40, 100)),
        ("front", 69, (10, 70, 100)),
        ("front", 39, (0, 0, 0)),
        ("answer", 33, (0, 0, 33)),
        ("drop", 99, (0, 0, 0)),
    ],
)
def test_whole_exchanges_are_kept(truncation: str, block: int, kept: tuple[int, int, int]) -> None:
    assert _shortened(CUTS, 100, block, truncation) == kept


def test_nothing_is_cut_from_the_front_where_the_system_message_has_no_end_of_its_own() -> None:
    assert _shortened([2**32 - 1, 40, 70], 100, 75, "front") == (0, 0, 0)
    assert _shortened([2**32 - 1, 40, 70], 100, 75, "back") == (0, 0, 70)


def fitted(tmp_path: Path, truncation: str, block_size: int) -> tuple[Fitted, list[list[int]], list[list[bool]]]:
    """Two conversations: one of 4 tokens, one of a system message (90, 91) and three exchanges of 3 tokens."""
    documents = [[1, 2, 3, 4], [90, 91, 10, 11, 12, 20, 21, 22, 30, 31, 32]]
    masks = [[0, 0, 1, 1], [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]]
    store = make_store(tmp_path, documents, masks=masks, cuts=[[0], [2, 5, 8]])
    made = fit(store, np.arange(2), block_size, truncation)
    plan = made.expand(
        PACKINGS["padded"](np.arange(len(made.starts)), made.lengths + made.leads, block_size, keep_tail=True)
    )
    assert (plan.cut, plan.dropped) == (made.cut, made.dropped)
    items = [TokenDataset(store, plan)[index] for index in range(len(plan))]
    assert all(item["segments"].tolist() == [len(item["input_ids"])] for item in items)  # a lead is no segment
    return made, [item["input_ids"].tolist() for item in items], [item["learned"].tolist() for item in items]


@pytest.mark.parametrize(
    ("truncation", "wanted", "counts"),
    [
        ("back", [90, 91, 10, 11, 12, 20, 21, 22], (1, 0)),
        ("front", [90, 91, 20, 21, 22, 30, 31, 32], (1, 0)),
        ("answer", [90, 91, 10, 11, 12, 20, 21, 22, 30], (1, 0)),
        ("drop", None, (0, 1)),
    ],
)
def test_what_is_left_of_a_long_conversation(
    tmp_path: Path, truncation: str, wanted: list[int] | None, counts: tuple[int, int]
) -> None:
    made, ids, learned = fitted(tmp_path, truncation, 9)
    assert ids == [[1, 2, 3, 4], *([wanted] if wanted else [])]
    assert (made.cut, made.dropped) == counts
    assert learned[0] == [False, False, True, True]
    if wanted:
        assert learned[1] == [token in (12, 22, 32) for token in wanted]


def test_a_conversation_is_never_kept_without_a_learned_token(tmp_path: Path) -> None:
    made, ids, _ = fitted(tmp_path, "answer", 4)  # its first four tokens are a system message and a question
    assert ids == [[1, 2, 3, 4]]
    assert (made.cut, made.dropped) == (0, 1)


def test_one_that_fits_is_not_cut(tmp_path: Path) -> None:
    made, ids, _ = fitted(tmp_path, "back", 11)
    assert len(ids[1]) == 11
    assert (made.cut, made.dropped) == (0, 0)
