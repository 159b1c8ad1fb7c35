"""A store under a plan as a map-style dataset: item i is sequence i."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from trainyard.config.schema import DataConfig
from trainyard.data.batches.collator import Sample
from trainyard.data.sequences.packing import Plan
from trainyard.data.sequences.plans import open_plans
from trainyard.data.store import TokenStore
from trainyard.errors import DataError


class TokenDataset(Dataset[Sample]):
    """The sequences of a plan as samples. Reading one costs a few microseconds."""

    def __init__(self, store: TokenStore, plan: Plan):
        self.store = store
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Sample:
        starts, lengths = self.plan.sequence(int(index))
        stops = list(itertools.accumulate(lengths))
        ids = np.empty(stops[-1], dtype=np.int64)
        loss_mask = np.empty(stops[-1], dtype=bool) if self.store.masked else None
        for start, length, stop in zip(starts, lengths, stops, strict=True):
            ids[stop - length : stop] = self.store.read(start, start + length)
            if loss_mask is not None:
                loss_mask[stop - length : stop] = self.store.read(start, start + length, "loss_mask")
        return Sample(input_ids=ids, segments=self.plan.segments(int(index), lengths), loss_mask=loss_mask)

    def documents(self, indices: Iterable[int]) -> list[int]:
        """The numbers, in the store, of the documents in some sequences, ascending.

        The cost grows with the store: this is for messages, not for training.
        """
        starts = [start for index in indices for start in self.plan.sequence(int(index))[0]]
        ends = np.cumsum(self.store.lengths, dtype=np.int64)
        return np.unique(np.searchsorted(ends, starts, side="right")).tolist()


@dataclass(frozen=True)
class Datasets:
    """The sequences of a run."""

    train: TokenDataset
    evaluation: TokenDataset | None
    """Sequences of the held-out documents; None when no document is held out."""


def open_datasets(directory: Path, data: DataConfig, seed: int) -> Datasets:
    """The training sequences and the held-out sequences of a store.

    Raises:
        DataError: there are fewer training tokens than one sequence holds.
    """
    store = TokenStore(directory)
    plans = open_plans(store, data, seed)
    if not len(plans.train):
        raise DataError(
            f"the corpus has {plans.train.tail} training tokens and data.block_size={data.block_size}: "
            f"not one sequence. Use a smaller block or more text"
        )
    evaluation = TokenDataset(store, plans.held_out) if len(plans.held_out) else None
    train = plans.train if data.max_sequences is None else plans.train.head(data.max_sequences)
    return Datasets(TokenDataset(store, train), evaluation)
