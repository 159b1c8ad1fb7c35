"""The order of the samples, and the order without stretches that are left out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.data.sequences.order import merged, permute, sample_indices, without


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 3000), key=st.integers(0, 2**70))
def test_permute_is_a_permutation(n: int, key: int) -> None:
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


def test_it_shuffles_and_depends_on_seed_and_epoch() -> None:
    first = permute(np.arange(1000), 1000, key=1)
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    assert (first != permute(np.arange(1000), 1000, key=2)).mean() > 0.9
    epochs = sample_indices(np.arange(2000), 1000, seed=3)
    assert sorted(epochs[:1000]) == sorted(epochs[1000:]) == list(range(1000))
    assert (epochs[:1000] != epochs[1000:]).mean() > 0.9


def test_far_positions_need_no_more_than_near_ones() -> None:
    n = 10**11
    far = sample_indices(np.array([n - 1, n, 7 * n]), n, seed=0)
    assert ((far >= 0) & (far < n)).all()


def test_what_is_taken_out_never_comes_and_all_else_keeps_its_order() -> None:
    places = np.arange(12)
    assert without(places, []).tolist() == places.tolist()
    assert without(places, [(4, 6), (8, 9)]).tolist() == [0, 1, 2, 3, 6, 7, 9, 10, 11, 12, 13, 14]
    assert without(np.array([10**15]), [(4, 6)]).tolist() == [10**15 + 2]


def test_stretches_that_meet_are_one() -> None:
    assert merged([(6, 8), (4, 6), (1, 2)]) == [(1, 2), (4, 8)]
    assert merged([(1, 9), (3, 4), (9, 9)]) == [(1, 9)]
    assert merged([]) == []
