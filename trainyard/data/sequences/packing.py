"""Packing: how sequences are made of the documents of a token store, as index arrays. A plan holds no token.

data.packing chooses the function: concat (block grouping), best_fit (packing that cuts only documents longer than a
block) or padded (a document per sequence). One store serves them all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


_BLOCKS_AT_ONCE = 1 << 16
"""Blocks that concat makes in one go, which bounds its memory beside the plan itself."""


_ARRAYS = ("first", "starts", "lengths", "joins")

_FIELDS = {
    "block_size": "block_size",
    "num_tokens": "num_tokens",
    "tail": "tail",
    "cut": "shortened",
    "dropped": "dropped",
    "documents": "documents",
}
"""The other fields of a plan by their keys in plans.json."""


@dataclass(frozen=True)
class Plan:
    """Sequences of at most `block_size` tokens, each made of spans of documents.

    Sequence i is made of the spans [first[i], first[i + 1]); span s is the `lengths[s]` tokens of the store from
    `starts[s]` on. The arrays may be memory maps, so a plan of any size costs a process nothing.

    Documents of 5, 2 and 1 tokens in blocks of 4, by best_fit: sequence 0 is the first 4 tokens of the first document,
    sequence 1 the second document, the last token of the first and the third one:

        first 0 1 4    starts 0 5 4 7    lengths 4 2 1 1
    """

    block_size: int
    first: Integers
    starts: Integers
    lengths: npt.NDArray[np.int32]
    num_tokens: int
    """Tokens in all sequences."""
    tail: int = 0
    """Tokens after the last whole block of `concat`; all other tokens of the documents are in a sequence."""
    joins: npt.NDArray[np.bool_] | None = None
    """For each span whether it continues the document of the span before; None: no span does."""
    shortened: int = 0
    """Conversations that were shortened to fit."""
    dropped: int = 0
    """Conversations that were left out."""
    documents: int = 0
    """Conversations in all, as often as the sources' shares take them; 0 for text, and in a plan of version 0.1."""

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def fill(self) -> float:
        """The share of the sequences' places that hold a token."""
        return self.num_tokens / (len(self) * self.block_size) if len(self) else 0.0

    @property
    def tokens_per_sequence(self) -> float:
        """The mean."""
        return self.num_tokens / len(self) if len(self) else 0.0

    def sequence(self, index: int) -> tuple[list[int], list[int]]:
        """Where the spans of sequence `index` begin in the store, and how many tokens they have, in order."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        begin, end = self.first[index : index + 2].tolist()
        return self.starts[begin:end].tolist(), self.lengths[begin:end].tolist()

    def spans(self, index: int) -> list[tuple[int, int]]:
        """The spans of sequence `index` as [start, stop) ranges of the store."""
        return [(start, start + length) for start, length in zip(*self.sequence(index), strict=True)]

    def segments(self, index: int, lengths: list[int]) -> npt.NDArray[np.int64]:
        """Tokens of each document in sequence `index`, whose spans have these lengths; they add up to its length."""
        if self.joins is None:
            return np.array(lengths, dtype=np.int64)
        begin, end = self.first[index : index + 2].tolist()
        return np.add.reduceat(np.array(lengths, dtype=np.int64), np.flatnonzero(~self.joins[begin:end]))

    def head(self, count: int) -> "Plan":
        """The first `count` sequences, or all if there are no more. The arrays are views."""
        first = self.first[: count + 1]
        return replace(self, first=first, num_tokens=int(self.lengths[: int(first[-1])].sum()))

    def save(self, directory: Path, name: str) -> dict[str, Any]:
        """Writes the arrays as <name>-*.npy; returns the other fields under their names on disk, for `load`."""
        for array in _ARRAYS:
            if getattr(self, array) is not None:
                np.save(directory / f"{name}-{array}.npy", getattr(self, array))
        return {key: getattr(self, field) for key, field in _FIELDS.items()}

    @classmethod
    def load(cls, directory: Path, name: str, described: dict[str, Any]) -> "Plan":
        """A saved plan, its arrays mapped into memory."""
        files = {array: directory / f"{name}-{array}.npy" for array in _ARRAYS}
        arrays: Any = {array: np.load(file, mmap_mode="r") for array, file in files.items() if file.exists()}
        return cls(**{_FIELDS[key]: value for key, value in described.items()}, **arrays)


def concat(starts: Integers, lengths: Integers, block_size: int, *, keep_tail: bool) -> Plan:
    """Block grouping: the documents follow one another in one stream, which is cut every `block_size` tokens.

    For documents of 3, 4 and 5 tokens and block_size 4 the sequences hold the tokens [0, 4), [4, 8) and [8, 12) of the
    stream; sequence 0 is the first document and one token of the second. The rest after the last whole block is one
    shorter sequence if `keep_tail`, and otherwise the plan's tail.

    Args:
        starts: where each document begins in the store, in tokens; int64, any order, repeats allowed.
        lengths: tokens of each document; int64.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    whole, rest = divmod(total, block_size)
    blocks = whole + int(keep_tail and rest > 0)
    used = min(total, blocks * block_size)
    inside = (lengths > 0) & (ends < used) & (ends % block_size > 0)  # documents that end within a block
    num_spans = blocks + int(inside.sum())
    first, at = np.zeros(blocks + 1, np.int64), 0
    span_starts, span_lengths = np.empty(num_spans, np.int64), np.empty(num_spans, np.int32)
    for block in range(0, blocks, _BLOCKS_AT_ONCE):
        stop = min(block + _BLOCKS_AT_ONCE, blocks)
        begin, end = block * block_size, min(stop * block_size, used)
        some = slice(np.searchsorted(ends, begin, "right"), np.searchsorted(ends, end, "left"))
        block_ends = np.minimum(np.arange(block + 1, stop + 1) * block_size, used)
        stops = np.sort(np.concatenate([ends[some][inside[some]], block_ends]))
        begins = np.concatenate([[begin], stops[:-1]])
        documents = np.searchsorted(ends, begins, "right")
        span_starts[at : at + len(stops)] = starts[documents] + begins - (ends[documents] - lengths[documents])
        span_lengths[at : at + len(stops)] = stops - begins
        first[block + 1 : stop + 1] = at + np.searchsorted(stops, block_ends, "right")
        at += len(stops)
    return Plan(block_size, first, span_starts, span_lengths, used, total - used)


def best_fit(starts: Integers, lengths: Integers, block_size: int, *, keep_tail: bool = True) -> Plan:
    """Best-fit-decreasing packing (Ding et al., "Fewer Truncations Improve Language Modeling", 2024).

    Documents longer than a block are cut every block_size tokens; no other is cut. Then each span, longest first, goes
    into the fullest sequence that still has room for it. All sequences with the same room are alike, so spans of one
    length are placed together, as many as there are sequences of the best room: the work grows with the number of
    different lengths rather than with the number of spans. For spans of 5, 3, 2, 2 and block_size 7 the sequences are
    5 2 and 3 2. No token is lost, so `keep_tail` has no meaning here.
    """
    starts, lengths = _chunks(starts, lengths, block_size)
    order = np.argsort(-lengths.astype(np.int32), kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    sequence_of = np.empty(len(lengths), dtype=np.int64)
    room = _Room(block_size)
    done = num_sequences = 0
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while count:
            space = room.best(length)
            per_sequence = (space or block_size) // length
            wanted = -(-count // per_sequence)
            if space is None:
                sequences = np.arange(num_sequences, num_sequences + wanted)
                num_sequences += wanted
            else:
                sequences = room.take(space, wanted)
            placed = min(count, len(sequences) * per_sequence)
            sequence_of[done : done + placed] = np.repeat(sequences, per_sequence)[:placed]
            full, rest = divmod(placed, per_sequence)
            room.put((space or block_size) - per_sequence * length, sequences[:full])
            room.put((space or block_size) - rest * length, sequences[full:])
            done, count = done + placed, count - placed
    by_sequence = order[np.argsort(sequence_of, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(sequence_of, minlength=num_sequences))]).astype(np.int64)
    return Plan(block_size, first, starts[by_sequence], _int32(lengths[by_sequence]), int(lengths.sum()))


class _Room:
    """Open sequences by the number of tokens for which they have room."""

    def __init__(self, block_size: int):
        self._stacks: list[list[Integers]] = [[] for _ in range(block_size + 1)]
        self._open = 0  # bit r is set when a sequence has room for r tokens

    def best(self, length: int) -> int | None:
        """The smallest room that takes `length` tokens."""
        fitting = self._open >> length
        return (fitting & -fitting).bit_length() - 1 + length if fitting else None

    def take(self, space: int, wanted: int) -> Integers:
        """Up to `wanted` sequences, at least one, with room for `space` tokens."""
        stack = self._stacks[space]
        sequences = stack.pop()
        if len(sequences) > wanted:
            stack.append(sequences[wanted:])
        elif not stack:
            self._open &= ~(1 << space)
        return sequences[:wanted]

    def put(self, space: int, sequences: Integers) -> None:
        """Sequences that now have room for `space` tokens."""
        if space and len(sequences):
            self._stacks[space].append(sequences)
            self._open |= 1 << space


def padded(starts: Integers, lengths: Integers, block_size: int, *, keep_tail: bool = True) -> Plan:
    """One document per sequence; a document longer than a block takes several. No token is lost."""
    starts, lengths = _chunks(starts, lengths, block_size)
    return Plan(block_size, np.arange(len(starts) + 1), starts, _int32(lengths), int(lengths.sum()))


def _chunks(starts: Integers, lengths: Integers, block_size: int) -> tuple[Integers, Integers]:
    """Documents cut every block_size tokens: 0 + 9 tokens and a block of 4 become 0 + 4, 4 + 4 and 8 + 1."""
    counts = -(-lengths // block_size)
    documents = np.repeat(np.arange(len(lengths)), counts)
    offsets = (np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)) * block_size
    return starts[documents] + offsets, np.minimum(lengths[documents] - offsets, block_size)


def _int32(values: Integers) -> npt.NDArray[np.int32]:
    return values.astype(np.int32)


PACKINGS: dict[str, Callable[..., Plan]] = {"concat": concat, "best_fit": best_fit, "padded": padded}
"""The functions behind data.packing: each packs documents, given by start and length, into a plan."""
