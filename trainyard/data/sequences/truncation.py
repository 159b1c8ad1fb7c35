"""Conversations that are longer than a sequence: cut where turns meet, divided, or left out."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainyard.data.sequences.packing import Integers, Plan
from trainyard.data.store import TokenStore

TRUNCATIONS = ("back", "front", "answer", "drop", "split")


Part = tuple[int, int, int]
"""Of a conversation: the tokens of its lead, and where what stands behind the lead begins and ends."""


@dataclass(frozen=True)
class Fitted:
    """What is trained on of each conversation: `lengths` tokens from `starts` on, behind a lead of `leads` tokens.

    All are int64 arrays of one entry per conversation that is kept, or per part of it; a lead begins where its
    conversation begins.
    """

    starts: Integers
    lengths: Integers
    lead_starts: Integers
    leads: Integers
    cut: int
    """Conversations that were shortened or divided."""
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
            split keeps all, in several parts.
    """
    lengths = np.asarray(store.lengths, dtype=np.int64)
    begins, whole = (np.cumsum(lengths) - lengths)[documents], lengths[documents]
    parts: dict[int, list[Part]] = {}
    for place in map(int, np.flatnonzero(whole > block_size)):
        made = _parts(store.cuts(int(documents[place])), int(whole[place]), block_size, truncation)
        begin = int(begins[place])
        parts[place] = [part for part in made if store.read(begin + part[1], begin + part[2], "loss_mask").any()]
    counts = np.ones(len(documents), np.int64)
    counts[list(parts)] = [len(kept) for kept in parts.values()]
    conversation, first = np.repeat(np.arange(len(documents)), counts), np.cumsum(counts) - counts
    starts, kept, leads = begins[conversation], whole[conversation], np.zeros(len(conversation), np.int64)
    for place, found in parts.items():
        for number, (lead, start, stop) in enumerate(found, int(first[place])):
            starts[number], kept[number], leads[number] = begins[place] + start, stop - start, lead
    dropped = sum(not found for found in parts.values())
    return Fitted(starts, kept, begins[conversation], leads, len(parts) - dropped, dropped)


def _parts(cuts: list[int], length: int, block_size: int, truncation: str) -> list[Part]:
    """What is kept of a conversation that is too long.

    Exchanges that begin at 10, 40 and 70 of 100 tokens, in a block of 75: back keeps [0, 70), front the lead [0, 10)
    and [40, 100), split [0, 70) and, behind the lead, [70, 100).
    """
    if truncation == "answer":
        return [(0, 0, block_size)]
    if truncation == "back":
        stop = max((place for place in cuts[1:] if place <= block_size), default=0)
        return [(0, 0, stop)] if stop else []
    if truncation == "front" and cuts:
        fitting = [place for place in cuts[1:] if cuts[0] + length - place <= block_size]
        return [(cuts[0], fitting[0], length)] if fitting else []
    return _divided(cuts, length, block_size) if truncation == "split" else []


def _divided(cuts: list[int], length: int, block_size: int) -> list[Part]:
    """Every exchange, as many in one part as fit behind the lead; one that does not fit goes on in further parts.

    A part that begins within an exchange and has no lead repeats one token, from which its first one is predicted.
    """
    lead = cuts[0] if cuts and cuts[0] < block_size // 2 else 0
    parts: list[list[int]] = []
    for start, stop in pairwise([lead, *cuts[1:], length]):
        if parts and stop - parts[-1][0] + lead <= block_size:
            parts[-1][1] = stop
            continue
        while start < stop:
            end = min(start + block_size - lead, stop)
            parts.append([start, end])
            start = end if lead or end == stop else end - 1
    return [(lead if start > lead else 0, start if start > lead else 0, end) for start, end in parts]
