"""The documents of a mixture, by weights and epochs, and those that are held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.config.schema import SourceConfig
from trainyard.data.sequences.mixture import is_mixed, mix, split_documents
from trainyard.errors import DataError


def sources(*shares: tuple[float | None, float]) -> list[SourceConfig]:
    return [SourceConfig(path=f"{n}", format="text", weight=w, epochs=e) for n, (w, e) in enumerate(shares)]


def test_the_held_out_share_depends_on_the_text_alone() -> None:
    hashes = np.array([2**63, 5, 2**64 - 1, 2**62], dtype=np.uint64)
    assert [part.tolist() for part in split_documents(hashes, 0.5)] == [[0, 2], [1, 3]]
    assert [part.tolist() for part in split_documents(hashes, 0.0)] == [[0, 1, 2, 3], []]
    assert [part.tolist() for part in split_documents(hashes, 1e-30)] == [[0, 2, 3], [1]]  # never nothing


def test_the_example_of_the_docstring() -> None:
    lengths = np.array([100, 100, 100, 50, 50])
    mixed = mix(np.arange(5), lengths, [3, 2], sources((1, 1), (1, 2)), seed=0)
    assert len(mixed) == 2 + 4
    assert len(set(mixed[:2].tolist()) & {0, 1, 2}) == 2
    assert mixed[2:].tolist() == [3, 4, 3, 4]


def test_epochs_alone_repeat_a_source_or_take_a_part_of_it() -> None:
    lengths = np.full(100, 10)
    mixed = mix(np.arange(100), lengths, [50, 50], sources((None, 2.5), (None, 1)), seed=3)
    times = np.bincount(mixed, minlength=100)
    assert sorted(times[:50]) == [2] * 25 + [3] * 25
    assert times[50:].tolist() == [1] * 50


def test_weights_are_shares_of_the_tokens_and_epochs_a_limit() -> None:
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 500, 9000)
    counts = [5000, 3000, 1000]
    chosen = sources((0.2, 1), (0.3, 1), (0.5, 4))
    mixed = mix(np.arange(9000), lengths, counts, chosen, seed=7)
    source_of = np.repeat(np.arange(3), counts)[mixed]
    tokens = np.bincount(source_of, weights=lengths[mixed])
    np.testing.assert_allclose(tokens / tokens.sum(), [0.2, 0.3, 0.5], atol=0.001)
    times = np.bincount(mixed, minlength=9000)
    assert times[:8000].max() == 1
    assert set(times[8000:].tolist()) == {4}  # the source that decides how large the mixture is


def test_the_choice_follows_from_the_seed() -> None:
    def half(seed: int) -> list[int]:
        return mix(np.arange(200), np.full(200, 5), [200], sources((None, 0.5)), seed).tolist()

    assert half(1) == half(1) != half(2)
    assert len(half(1)) == 100
    assert half(1) != list(range(100))  # spread over the source


@settings(max_examples=300, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_no_source_is_seen_more_often_than_its_epochs(data: st.DataObject, seed: int) -> None:
    counts = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    lengths = np.array(data.draw(st.lists(st.integers(1, 50), min_size=sum(counts), max_size=sum(counts))))
    shares = [(data.draw(st.floats(0.01, 10)), float(data.draw(st.integers(1, 4)))) for _ in counts]
    times = np.bincount(mix(np.arange(sum(counts)), lengths, counts, sources(*shares), seed), minlength=sum(counts))
    for part, (_, epochs) in zip(np.split(times, np.cumsum(counts)[:-1]), shares, strict=True):
        assert part.max() <= epochs


def test_all_copies_of_a_text_are_held_out_together() -> None:
    hashes = np.array([2**62] * 3 + [2**63], dtype=np.uint64)
    assert [part.tolist() for part in split_documents(hashes, 1e-30)] == [[3], [0, 1, 2]]
    assert [part.tolist() for part in split_documents(hashes[:3], 1e-30)] == [[0, 1, 2], []]


def test_documents_held_out_stay_out() -> None:
    training = np.array([1, 3, 4])
    mixed = mix(training, np.full(6, 10), [3, 3], sources((None, 2), (None, 1)), seed=0)
    assert mixed.tolist() == [1, 1, 3, 4]


def test_a_weight_without_tokens_is_named() -> None:
    with pytest.raises(DataError, match="1: no tokens to train on, and weight=2"):
        mix(np.array([0]), np.array([5, 5]), [1, 1], sources((1, 1), (2, 1)), seed=0)


def test_plain_sources_are_not_mixed() -> None:
    assert not is_mixed(sources((None, 1), (None, 1)))
    assert is_mixed(sources((1.0, 1)))
    assert is_mixed(sources((None, 0.5)))
