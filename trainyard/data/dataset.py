"""Sequences of a plan as training samples, and batches of them as tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from trainyard.data.plan import ConcatPlan, split_documents
from trainyard.data.store import TokenStore
from trainyard.schema import DataConfig

IGNORE = -100
"""The label that the loss passes over."""


class Sample(TypedDict):
    input_ids: npt.NDArray[np.int64]
    """Token ids, shape [length], length <= block_size."""
    segments: npt.NDArray[np.int64]
    """Lengths of the pieces of documents that the sequence is made of, in order; they add up to its length."""


class TokenDataset(Dataset[Sample]):
    """Map-style: item i is sequence i of the plan. Reading one costs a few microseconds."""

    def __init__(self, store: TokenStore, plan: ConcatPlan):
        self.store = store
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Sample:
        pieces = self.plan.pieces(int(index))
        ids = np.concatenate([self.store.read(start, stop) for start, stop in pieces])
        lengths = np.array([stop - start for start, stop in pieces], dtype=np.int64)
        return Sample(input_ids=ids.astype(np.int64), segments=lengths)


def collate(samples: list[Sample], block_size: int) -> dict[str, torch.Tensor]:
    """A micro batch: `input_ids` and `labels`, int64 of shape [len(samples), block_size].

    A sequence shorter than block_size is filled up on the right with id 0 and labels -100. Attention is causal, so
    no real token sees the filling, and no attention mask is needed. `labels` are the ids themselves; models shift them.
    """
    input_ids = torch.zeros(len(samples), block_size, dtype=torch.int64)
    labels = torch.full((len(samples), block_size), IGNORE, dtype=torch.int64)
    for row, sample in enumerate(samples):
        ids = torch.from_numpy(sample["input_ids"])
        input_ids[row, : len(ids)] = ids
        labels[row, : len(ids)] = ids
    return {"input_ids": input_ids, "labels": labels}


@dataclass(frozen=True)
class Datasets:
    train: TokenDataset
    evaluation: TokenDataset | None
    """The documents held out; None when there are none."""


def open_datasets(directory: Path, data: DataConfig) -> Datasets:
    """The training and the held-out sequences of a store.

    Raises:
        ValueError: there are fewer training tokens than one sequence holds.
    """
    store = TokenStore(directory)
    training, held_out = split_documents(store, data.eval_fraction)
    plan = ConcatPlan.make(store, training, data.block_size, keep_tail=False)
    if len(plan) == 0:
        raise ValueError(
            f"the corpus has {plan.num_tokens} training tokens and data.block_size={data.block_size}: "
            f"not one sequence. Use a smaller block or more text"
        )
    evaluation = ConcatPlan.make(store, held_out, data.block_size, keep_tail=True)
    return Datasets(TokenDataset(store, plan), TokenDataset(store, evaluation) if len(evaluation) else None)
