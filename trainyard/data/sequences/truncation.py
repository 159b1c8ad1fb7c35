"""Conversations that are longer than a sequence: shortened where exchanges meet, divided, or left out."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainyard.data.sequences.packing import Integers, Plan
from trainyard.data.store import TokenStore
from trainyard.data.tokenization.encoded import CutPoints

TRUNCATIONS = ("back", "front", "answer", "drop", "split")


class Kept(NamedTuple):
    """Tokens of a conversation that make one entry: [0, lead) and [start, stop), counted from its beginning."""

    lead: int
    start: int
    stop: int


@dataclass(frozen=True)
class Fitted:
    """The part of each conversation to train on: `lengths` tokens from `starts` on, behind a lead of `leads` tokens.

    All are int64 arrays with an entry for each conversation that is kept, or for each part of it. A lead begins where
    its conversation begins.
    """

    starts: Integers
    lengths: Integers
    lead_starts: Integers
    leads: Integers
    shortened: int
    """Conversations that were shortened or divided."""
    dropped: int
    """Conversations that were left out, because nothing to learn would have remained."""
    documents: int
    """Conversations in all."""

    def expand(self, plan: Plan) -> Plan:
        """Turns a plan whose spans are entries of this object into one whose spans are tokens of the store."""
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
            shortened=self.shortened, dropped=self.dropped, documents=self.documents,
        )  # fmt: skip


def fit(store: TokenStore, documents: npt.NDArray[np.int64], block_size: int, truncation: str) -> Fitted:
    """Shortens the conversations that are longer than `block_size` tokens.

    Args:
        documents: numbers of the conversations to fit.
        truncation: back keeps the first exchanges that fit. front keeps the lead, such as the system message, and the
            last exchanges that fit. answer keeps the first `block_size` tokens. drop keeps nothing. split keeps
            everything, in several parts.
    """
    lengths = np.asarray(store.lengths, dtype=np.int64)
    begins, whole = (np.cumsum(lengths) - lengths)[documents], lengths[documents]
    parts: dict[int, list[Kept]] = {}
    for place in map(int, np.flatnonzero(whole > block_size)):
        made = _kept(store.cut_points(int(documents[place])), int(whole[place]), block_size, truncation)
        begin = int(begins[place])
        closed = [_closed(part, store.read(begin, begin + int(whole[place]), "loss_mask"), block_size) for part in made]
        parts[place] = [part for part in closed if store.read(begin + part.start, begin + part.stop, "loss_mask").any()]
    counts = np.ones(len(documents), np.int64)
    counts[list(parts)] = [len(kept) for kept in parts.values()]
    conversation, first = np.repeat(np.arange(len(documents)), counts), np.cumsum(counts) - counts
    starts, kept, leads = begins[conversation], whole[conversation], np.zeros(len(conversation), np.int64)
    for place, found in parts.items():
        for entry, part in enumerate(found, int(first[place])):
            starts[entry], kept[entry], leads[entry] = begins[place] + part.start, part.stop - part.start, part.lead
    dropped = sum(not found for found in parts.values())
    return Fitted(starts, kept, begins[conversation], leads, len(parts) - dropped, dropped, len(documents))


def _kept(points: CutPoints, length: int, block_size: int, truncation: str) -> list[Kept]:
    """The parts that are kept of a conversation that is too long.

    Exchanges that begin at 10, 40 and 70 of 100 tokens, in a block of 75: back keeps [0, 70), front the lead [0, 10)
    and [40, 100), split [0, 70) and, behind the lead, [70, 100).
    """
    if truncation == "answer":
        return [Kept(0, 0, block_size)]
    if truncation == "back":
        stop = max((place for place in points.later if place <= block_size), default=0)
        return [Kept(0, 0, stop)] if stop else []
    if truncation == "front" and points.first is not None:
        fitting = [place for place in points.later if points.first + length - place <= block_size]
        return [Kept(points.first, fitting[0], length)] if fitting else []
    return _divided(points, length, block_size) if truncation == "split" else []


def _closed(part: Kept, loss_mask: npt.NDArray[np.uint8], block_size: int) -> Kept:
    """The part with the token that closes its last answer, where that is the first of the next exchange.

    Some templates end an answer by the next role's token alone, which is learned. A full part ends without.
    """
    around = loss_mask[part.stop - 1 : part.stop + 2].tolist()
    has_room = part.lead + part.stop - part.start < block_size
    return part._replace(stop=part.stop + 1) if around == [1, 1, 0] and has_room else part


def _divided(points: CutPoints, length: int, block_size: int) -> list[Kept]:
    """All exchanges, as many in a part as fit behind the lead; an exchange that does not fit takes several parts.

    A part that begins within an exchange and has no lead repeats one token, from which its first token is predicted.
    """
    lead = points.first if points.first is not None and points.first < block_size // 2 else 0
    ranges: list[list[int]] = []
    for start, stop in pairwise([lead, *points.later, length]):
        if ranges and stop - ranges[-1][0] + lead <= block_size:
            ranges[-1][1] = stop
            continue
        while start < stop:
            end = min(start + block_size - lead, stop)
            ranges.append([start, end])
            start = end if lead or end == stop else end - 1
    return [Kept(lead, start, stop) if start > lead else Kept(0, 0, stop) for start, stop in ranges]
