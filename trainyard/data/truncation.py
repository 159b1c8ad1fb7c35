"""Conversations that are longer than a sequence: cut where turns meet, or left out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainyard.data.plan import Integers, Plan
from trainyard.data.store import TokenStore

TRUNCATIONS = ("back", "front", "answer", "drop")


@dataclass(frozen=True)
class Fitted:
    """What is trained on of each conversation: `lengths` tokens from `starts` on, behind a lead of `leads` tokens.

    All are int64 arrays of one entry per conversation that is kept; a lead begins where its conversation begins.
    """

    starts: Integers
    lengths: Integers
    lead_starts: Integers
    leads: Integers
    cut: int
    """Conversations that were shortened."""
    dropped: int
    """Conversations that were left out, because nothing learned would have remained."""

    def expand(self, plan: Plan) -> Plan:
        """A plan whose pieces are conversations, by their number here, as one whose pieces are tokens of the store."""
        order = np.asarray(plan.starts)
        has_lead = self.leads[order] > 0
        first = np.concatenate([[0], np.cumsum(1 + has_lead)])
        starts, lengths = np.empty(first[-1], np.int64), np.empty(first[-1], np.int32)
        joins = np.zeros(first[-1], bool)
        main, lead = first[1:] - 1, first[:-1][has_lead]
        starts[main], lengths[main] = self.starts[order], self.lengths[order]
        starts[lead], lengths[lead] = self.lead_starts[order][has_lead], self.leads[order][has_lead]
        joins[main[has_lead]] = True
        return Plan(
            plan.block_size, first[plan.first], starts, lengths, int(lengths.sum()), joins=joins,
            cut=self.cut, dropped=self.dropped,
        )  # fmt: skip


def fit(store: TokenStore, documents: npt.NDArray[np.int64], block_size: int, truncation: str) -> Fitted:
    """Shortens the conversations that are longer than `block_size` tokens.

    Args:
        truncation: back keeps the first exchanges that fit. front keeps what stands before the first exchange, as the
            system message, and the last exchanges that fit. answer keeps the first `block_size` tokens. drop none.
    """
    lengths = np.asarray(store.lengths, dtype=np.int64)
    begins = (np.cumsum(lengths) - lengths)[documents]
    starts, kept = begins.copy(), lengths[documents].copy()
    leads = np.zeros(len(documents), np.int64)
    cut = 0
    for place in np.flatnonzero(kept > block_size):
        begin, length = int(begins[place]), int(kept[place])
        lead, start, stop = _shortened(store.cuts(int(documents[place])), length, block_size, truncation)
        learned = start < stop and store.read(begin + start, begin + stop, "loss_mask").any()
        cut += bool(learned)
        starts[place], kept[place], leads[place] = begin + start, (stop - start) * bool(learned), lead
    good = kept > 0
    dropped = int((~good).sum())
    return Fitted(starts[good], kept[good], begins[good], leads[good], cut, dropped)


def _shortened(cuts: list[int], length: int, block_size: int, truncation: str) -> tuple[int, int, int]:
    """Tokens of the lead, and where what is kept behind it begins and ends; an empty range when nothing fits.

    Exchanges that begin at 10, 40 and 70 of 100 tokens, in a block of 75: back keeps [0, 70), front the lead [0, 10)
    and [40, 100).
    """
    if truncation == "answer":
        return 0, 0, block_size
    if truncation == "back":
        return 0, 0, max((place for place in cuts[1:] if place <= block_size), default=0)
    if truncation == "front" and cuts:
        fitting = [place for place in cuts[1:] if cuts[0] + length - place <= block_size]
        return (cuts[0], fitting[0], length) if fitting else (0, 0, 0)
    return 0, 0, 0
