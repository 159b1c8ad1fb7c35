"""The plans of a run, for training and for the held-out documents: made once beside the store, and mapped by all ranks.

A plan's directory is `<store>/plans/<digest>`, where the digest covers the settings that decide the plan.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from trainyard.config.schema import DataConfig
from trainyard.data.sequences.mixture import is_mixed, mix, split_documents
from trainyard.data.sequences.packing import PACKINGS, Plan
from trainyard.data.sequences.truncation import Fitted, fit
from trainyard.data.store import TokenStore, damaged
from trainyard.errors import DataError
from trainyard.files import staged

PLAN_FORMAT = 1
"""Raise it when the same settings would give another plan."""


@dataclass(frozen=True)
class Plans:
    """The sequences of the training documents, and those of the documents that are held out for evaluation."""

    train: Plan
    held_out: Plan


@dataclass(frozen=True)
class LeftOut:
    """Conversations that do not fit into a sequence."""

    documents: int
    """Conversations in all."""
    shortened: int
    dropped: int

    @property
    def share_dropped(self) -> float:
        """The share that is left out."""
        return self.dropped / max(1, self.documents)

    def __str__(self) -> str:
        counts = ((self.shortened, "shortened"), (self.dropped, "left out"))
        shares = (f"{count:,} {what} ({count / max(1, self.documents):.1%})" for count, what in counts)
        return f"{self.documents:,} conversations, {', '.join(shares)}"


def left_out(plans: Sequence[Plan], store: TokenStore) -> LeftOut:
    """The conversations of a store that are shortened or left out in the plans for training and for evaluation."""
    documents = sum(plan.documents for plan in plans) or len(store)
    return LeftOut(documents, sum(plan.shortened for plan in plans), sum(plan.dropped for plan in plans))


def make(store: TokenStore, data: DataConfig, seed: int) -> Plans:
    """Cuts a store into sequences as data.packing, block_size, eval_fraction and the sources' weights say.

    Raises:
        DataError: a source with a weight has no tokens.
    """
    lengths = np.asarray(store.lengths, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    training, held_out = split_documents(store.hashes, data.eval_fraction)
    if is_mixed(data.sources):
        source_documents = [source.documents for source in store.summary.sources]
        training = mix(training, lengths, source_documents, data.sources, seed)
    pack = PACKINGS[data.packing]
    if store.masked:
        fitted = [fit(store, chosen, data.sequence_length, data.truncation) for chosen in (training, held_out)]
        return Plans(*(each.expand(_pack_fitted(pack, each, data.sequence_length)) for each in fitted))
    return Plans(
        pack(starts[training], lengths[training], data.sequence_length, keep_tail=False),
        pack(starts[held_out], lengths[held_out], data.sequence_length, keep_tail=True),
    )


def _pack_fitted(pack: Callable[..., Plan], fitted: Fitted, block_size: int) -> Plan:
    """A plan whose spans are conversations by number: all of them fit into a block, so `pack` does not cut them."""
    return pack(np.arange(len(fitted.starts)), fitted.lengths + fitted.leads, block_size, keep_tail=True)


def directory_of(store: Path, data: DataConfig, seed: int) -> Path:
    """The directory for the saved plans of these settings."""
    shares = [[source.weight, source.epochs] for source in data.sources] + [seed] if is_mixed(data.sources) else []
    decisive = [PLAN_FORMAT, data.packing, data.block_size, data.eval_fraction, data.truncation, shares]
    return store / "plans" / xxhash.xxh3_64_hexdigest(json.dumps(decisive).encode())


def save(plans: Plans, target: Path) -> None:
    """Writes both plans; another process sees all of them or nothing."""
    with staged(target, shared=True) as staging:
        described = {name: getattr(plans, name).save(staging, name) for name in ("train", "held_out")}
        (staging / "plans.json").write_text(json.dumps(described), encoding="utf-8")


def load(target: Path) -> Plans:
    """The plans of a directory that `save` wrote.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        described = json.loads((target / "plans.json").read_text(encoding="utf-8"))
        return Plans(*(Plan.load(target, name, described[name]) for name in ("train", "held_out")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise DataError(damaged(target / "plans.json", target, error)) from error


def open_plans(store: TokenStore, data: DataConfig, seed: int) -> Plans:
    """The saved plans of a store, or plans made in memory when there are none."""
    saved = directory_of(store.directory, data, seed)
    return load(saved) if saved.is_dir() else make(store, data, seed)
