"""Which documents are trained on, how often, and which are held out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainyard.config.schema import SourceConfig
from trainyard.data.sequences.order import permute
from trainyard.errors import DataError

Documents = npt.NDArray[np.int64]


def split_documents(hashes: npt.NDArray[np.uint64], eval_fraction: float) -> tuple[Documents, Documents]:
    """The numbers of the documents for training and of those for evaluation, each ascending.

    A document is held out when the hash of its text falls into the lowest `eval_fraction` of the hash space, so the
    choice never depends on the order or the number of the documents. In a corpus so small that no hash falls there, the
    document with the smallest hash is held out.
    """
    held_out = np.asarray(hashes) < np.uint64(min(int(eval_fraction * 2**64), 2**64 - 1))
    if eval_fraction > 0 and len(hashes) > 1 and not held_out.any():
        held_out = hashes == hashes.min()  # with all its copies
        held_out &= not held_out.all()
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def is_mixed(sources: Sequence[SourceConfig]) -> bool:
    """Does any source set a weight, or epochs other than 1?"""
    return any(source.weight is not None or source.epochs != 1 for source in sources)


def mix(
    documents: Documents,
    lengths: npt.NDArray[np.int64],
    source_documents: Sequence[int],
    sources: Sequence[SourceConfig],
    seed: int,
) -> Documents:
    """The documents of one pass over a mixture; a source that is seen twice has its documents twice.

    Without weights every source is seen `epochs` times. With weights a source gets the share weight / sum of weights
    of the mixture's tokens, and the mixture is as large as it can be while no source is seen more than `epochs` times.
    For a fraction of a source, whole documents are chosen by a permutation that `seed` selects.

    Two sources of 300 and 100 tokens, with weight 1 each and epochs 1 and 2, give 200 tokens of the first source and
    the second source twice.

    Args:
        documents: the numbers of the documents to choose from, ascending.
        lengths: tokens of each document of the store.
        source_documents: how many documents of the store each source has, in order.

    Raises:
        DataError: a source with a weight has no tokens.
    """
    ends = np.searchsorted(documents, np.cumsum(source_documents))
    groups = np.split(documents, ends[:-1])
    sizes = [int(lengths[group].sum()) for group in groups]
    for source, size in zip(sources, sizes, strict=True):
        if source.weight and not size:
            raise DataError(f"{source.path}: no tokens to train on, and weight={source.weight:g} asks for some")
    budgets = [source.epochs * size for source, size in zip(sources, sizes, strict=True)]
    if any(source.weight is not None for source in sources):
        weights = [source.weight or 0.0 for source in sources]
        total = min(budget / weight for budget, weight in zip(budgets, weights, strict=True) if weight)
        budgets = [weight * total for weight in weights]
    parts = []
    for number, (group, size, budget) in enumerate(zip(groups, sizes, budgets, strict=True)):
        passes, rest = divmod(budget, size) if size else (0, 0)
        if size - rest < 0.5:  # rounding: the source that decides the total is seen whole
            passes, rest = passes + 1, 0
        elif passes and rest < 0.5:
            rest = 0
        parts += [group] * int(passes)
        if rest:
            shuffled = group[permute(np.arange(len(group)), len(group), key=(seed << 32) + number)]
            parts.append(np.sort(shuffled[: np.searchsorted(np.cumsum(lengths[shuffled]), rest) + 1]))
    return np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)
