"""What every encoder returns: the token ids of several documents, as flat arrays."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class CutPoints(NamedTuple):
    """Where a conversation may be cut: the places where its exchanges begin, ascending.

    An exchange is a message of the user with all that follows it, up to the user's next message behind an answer. The
    unit is the holder's: characters of a rendered text, fragments of it, or tokens.
    """

    first: int | None = None
    """Where the first exchange begins. What stands before it, such as a system message, is the lead. None: the template
    does not render the lead as a text of its own, so its end is unknown."""
    later: Sequence[int] = ()
    """Where each further exchange begins."""

    def known(self) -> list[int]:
        """All points, ascending."""
        return [*([] if self.first is None else [self.first]), *self.later]

    def map(self, convert: Callable[[int], int]) -> "CutPoints":
        """The same points in another unit."""
        return CutPoints(None if self.first is None else convert(self.first), [convert(point) for point in self.later])


class Tokens(NamedTuple):
    """The ids of several documents, one after another. The last four fields are for conversations."""

    ids: npt.NDArray[np.uint32]
    """All ids, flat."""
    lengths: npt.NDArray[np.int64]
    """Ids per document."""
    loss_mask: npt.NDArray[np.uint8] | None = None
    """For each id 1 if the loss counts it, else 0."""
    cut_points: Sequence[CutPoints] = ()
    """For each document, in tokens from its beginning."""
    refused: Mapping[int, str] = MappingProxyType({})
    """The reasons for documents that gave no ids, by their index in the call. The other fields leave them out."""
    notes: Sequence[Sequence[tuple[str, str]]] = ()
    """For each document what a user should know of it: a sentence that is the same for all documents of which it is
    true, and an example of this document, which may be empty."""

    @classmethod
    def join(cls, documents: Sequence[Sequence[int]]) -> "Tokens":
        """From documents as lists of ids."""
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        flat = np.fromiter((token for ids in documents for token in ids), dtype=np.uint32, count=int(lengths.sum()))
        return cls(flat, lengths)

    @classmethod
    def concatenate(cls, documents: Sequence[npt.NDArray[np.uint32]]) -> "Tokens":
        """From documents as arrays of ids."""
        flat = np.concatenate(documents) if documents else np.empty(0, np.uint32)
        return cls(flat, np.array([len(ids) for ids in documents], dtype=np.int64))

    def documents(self) -> list[npt.NDArray[np.uint32]]:
        """The ids of each document, as views."""
        return np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def document(self, index: int) -> npt.NDArray[np.uint32]:
        """The ids of one document, as a view."""
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
    """Adds `end` to every document that does not end with it already.

    With end=0 the documents [5, 6], [7, 0] and [] become [5, 6, 0], [7, 0] and [0].
    """
    stops = np.cumsum(tokens.lengths)
    last = np.where(tokens.lengths > 0, tokens.ids[np.maximum(stops - 1, 0)] if len(tokens.ids) else end, end + 1)
    missing = last != end
    return Tokens(
        np.insert(tokens.ids, stops[missing], np.uint32(end)).astype(np.uint32),
        tokens.lengths + missing.astype(np.int64),
    )
