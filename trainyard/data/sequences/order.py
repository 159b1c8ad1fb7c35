"""The order of the samples: a pure function of (seed, epoch, global position), in constant memory and time.

A shuffle is a pseudo-random permutation of [0, n) computed value by value: a balanced Feistel network over the smallest
power of four that holds n, walked on until the value falls below n (Black & Rogaway, "Ciphers with Arbitrary Finite
Domains", 2002). Nothing is stored, so position 10 billion costs what position 0 costs.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

_ROUNDS = 6


_MASK64 = (1 << 64) - 1


Indices = npt.NDArray[np.int64]


Stretches = Sequence[tuple[int, int]]
"""Ranges [first, stop) of global positions, ascending, with gaps between them."""


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def permute(positions: Indices, n: int, key: int) -> Indices:
    """Maps positions in [0, n) to a permutation of [0, n) that `key` selects. int64 array in and out, any shape."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(((key + 1) * 0x9E3779B97F4A7C15 + r * 0xD1B54A32D192ED03) & _MASK64) for r in range(_ROUNDS)]

    def encrypt(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = value >> half, value & low
        for round_key in keys:
            left, right = right, left ^ (_mix(right ^ round_key) & low)
        return (left << half) | right

    values = encrypt(positions.astype(np.uint64).ravel())
    while (outside := np.flatnonzero(values >= n)).size:
        values[outside] = encrypt(values[outside])
    return values.astype(np.int64).reshape(positions.shape)


def sample_indices(positions: Indices, n: int, seed: int) -> Indices:
    """The sample, one of n, at each global position. Position n is the first of the second epoch, and so on.

    Every epoch is another permutation. The result depends on the seed and n, never on the number of ranks.
    """
    epochs, places = np.divmod(positions, n)
    result = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = permute(places[here], n, key=(seed << 32) + int(epoch))
    return result


def merged(ranges: Iterable[Sequence[int]]) -> Stretches:
    """Ranges [first, stop) in any order, with those that touch or overlap joined: 6-8 4-6 1-2 become 1-2 4-8."""
    result: list[tuple[int, int]] = []
    for first, stop in sorted((first, stop) for first, stop in ranges):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((first, stop))
    return result


def without(places: Indices, skipped: Stretches) -> Indices:
    """The global positions at the given places of the order, once the stretches `skipped` are taken out.

    Without 4-6 and 8-9, the places 3 4 5 6 are the positions 3 6 7 9. Positions before a stretch keep their place, so
    a run that leaves out a stretch is the same run up to that stretch.
    """
    positions = places
    for first, stop in skipped:
        positions = np.where(positions >= first, positions + (stop - first), positions)
    return positions
