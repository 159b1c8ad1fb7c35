"""How sequences are cut from a token store, as index arrays. A plan never touches a token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainyard.data.store import TokenStore

Documents = npt.NDArray[np.int64]


def split_documents(store: TokenStore, eval_fraction: float) -> tuple[Documents, Documents]:
    """Document numbers for training and for evaluation, each ascending.

    A document is held out when the hash of its text falls into the lowest `eval_fraction` of the hash space, so the
    choice never depends on the order or the company of the documents. When a corpus is so small that none does, the
    one with the smallest hash is held out.
    """
    hashes = np.asarray(store.hashes)
    held_out = hashes < np.uint64(min(int(eval_fraction * 2**64), 2**64 - 1))
    if eval_fraction > 0 and len(hashes) > 1 and not held_out.any():
        held_out[np.argmin(hashes)] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@dataclass(frozen=True)
class ConcatPlan:
    """Block grouping: the chosen documents follow one another in one stream that is cut every `block_size` tokens.

    For documents of 3, 4 and 5 tokens and block_size 4 the sequences hold the tokens [0, 4), [4, 8) and [8, 12) of the
    stream; sequence 0 is the first document and one token of the second. What is left after the last whole block is
    one shorter sequence if `keep_tail`, and otherwise the plan's `tail`, the only tokens that are not trained on.
    """

    block_size: int
    starts: Documents
    """Where each chosen document begins in the store, in tokens."""
    ends: Documents
    """Where each chosen document ends in the stream, in tokens: the running sum of the lengths."""
    keep_tail: bool

    @classmethod
    def make(cls, store: TokenStore, documents: Documents, block_size: int, *, keep_tail: bool) -> "ConcatPlan":
        lengths = np.asarray(store.lengths, dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        return cls(block_size, starts[documents], np.cumsum(lengths[documents]), keep_tail)

    @property
    def num_tokens(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def tail(self) -> int:
        """Tokens after the last whole block that no sequence holds."""
        return 0 if self.keep_tail else self.num_tokens % self.block_size

    def __len__(self) -> int:
        whole, rest = divmod(self.num_tokens, self.block_size)
        return whole + int(self.keep_tail and rest > 0)

    def pieces(self, index: int) -> list[tuple[int, int]]:
        """Sequence `index` as [start, stop) ranges of the store, one for each document that it touches, in order."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        position = index * self.block_size
        stop = min(position + self.block_size, self.num_tokens)
        document = int(np.searchsorted(self.ends, position, side="right"))
        pieces = []
        while position < stop:
            end = int(self.ends[document])
            first = int(self.starts[document])
            begin = int(self.ends[document - 1]) if document else 0
            take = min(stop, end)
            if take > position:
                pieces.append((first + position - begin, first + take - begin))
            position, document = take, document + 1
        return pieces
