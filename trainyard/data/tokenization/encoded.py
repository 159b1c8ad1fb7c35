"""Token ids of several documents as flat arrays."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Tokens(NamedTuple):
    """The ids of several documents, one after another. The last three fields are for conversations."""

    ids: npt.NDArray[np.uint32]
    """All ids, flat."""
    lengths: npt.NDArray[np.int64]
    """Ids per document."""
    loss_mask: npt.NDArray[np.uint8] | None = None
    """For each id 1 if it is learned, else 0."""
    cuts: Sequence[Sequence[int]] = ()
    """For each document the places, counted in its ids, at which it may be cut; see template.Rendered."""
    refused: Mapping[int, str] = MappingProxyType({})
    """Documents that gave no ids, by their number in the call, with the reason; `lengths` leaves them out."""

    @classmethod
    def join(cls, documents: Sequence[Sequence[int]]) -> "Tokens":
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        flat = np.fromiter((token for ids in documents for token in ids), dtype=np.uint32, count=int(lengths.sum()))
        return cls(flat, lengths)

    @classmethod
    def concatenate(cls, documents: Sequence[npt.NDArray[np.uint32]]) -> "Tokens":
        flat = np.concatenate(documents) if documents else np.empty(0, np.uint32)
        return cls(flat, np.array([len(ids) for ids in documents], dtype=np.int64))

    def documents(self) -> list[npt.NDArray[np.uint32]]:
        """The ids of every document by itself."""
        return np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def document(self, index: int) -> npt.NDArray[np.uint32]:
        stop = int(self.lengths[: index + 1].sum())
        return self.ids[stop - int(self.lengths[index]) : stop]


def surround(tokens: Tokens, before: Sequence[int], after: Sequence[int]) -> Tokens:
    """Puts ids before and after every document.

    Documents [5, 6] and [7] with before=[1] and after=[2] become [1, 5, 6, 2] and [1, 7, 2].
    """
    if not before and not after:
        return tokens
    extra = len(before) + len(after)
    lengths = tokens.lengths + extra
    ends = np.cumsum(lengths)
    starts = ends - lengths
    result = np.empty(int(lengths.sum()), dtype=np.uint32)
    inner = np.ones(len(result), dtype=bool)
    for offset, token in enumerate(before):
        result[starts + offset] = token
        inner[starts + offset] = False
    for offset, token in enumerate(reversed(after)):
        result[ends - 1 - offset] = token
        inner[ends - 1 - offset] = False
    result[inner] = tokens.ids
    return Tokens(result, lengths)


def close(tokens: Tokens, end: int) -> Tokens:
    """Ends every document by `end`, those that end so already excepted.

    With end=0 the documents [5, 6], [7, 0] and [] become [5, 6, 0], [7, 0] and [0].
    """
    stops = np.cumsum(tokens.lengths)
    last = np.where(tokens.lengths > 0, tokens.ids[np.maximum(stops - 1, 0)] if len(tokens.ids) else end, end + 1)
    missing = last != end
    return Tokens(
        np.insert(tokens.ids, stops[missing], np.uint32(end)).astype(np.uint32),
        tokens.lengths + missing.astype(np.int64),
    )
