"""Flat token ids: the examples of the docstrings."""

import numpy as np

from trainyard.data.tokenization.encoded import CutPoints, Tokens, close, surround


def rows(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])]


def test_the_examples_of_the_docstrings() -> None:
    assert rows(surround(Tokens.join([[5, 6], [7]]), [1], [2])) == [[1, 5, 6, 2], [1, 7, 2]]
    assert rows(close(Tokens.join([[5, 6], [7, 0], []]), 0)) == [[5, 6, 0], [7, 0], [0]]
    assert rows(close(Tokens.join([[]]), 3)) == [[3]]
    assert Tokens.join([[1], [], [2, 3]]).document(2).tolist() == [2, 3]


def test_cut_points_in_another_unit() -> None:
    assert CutPoints(1, [3, 4]).known() == [1, 3, 4]
    assert CutPoints(None, [3]).known() == [3]
    assert CutPoints(1, [3, 4]).map(lambda point: 10 * point) == CutPoints(10, [30, 40])
    assert CutPoints(None, [3]).map(lambda point: 10 * point) == CutPoints(None, [30])
