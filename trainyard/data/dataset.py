"""Sequences of a plan as training samples, and batches of them as tensors."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from trainyard.data.plan import Plan
from trainyard.data.plans import open_plans
from trainyard.data.sources import DataError
from trainyard.data.store import TokenStore
from trainyard.schema import DataConfig

IGNORE = -100
"""The label that the loss passes over."""


class Sample(TypedDict):
    input_ids: npt.NDArray[np.int64]
    """Token ids, shape [length], length <= block_size."""
    segments: npt.NDArray[np.int64]
    """Lengths of the pieces of documents that the sequence is made of, in order; they add up to its length."""
    learned: npt.NDArray[np.bool_] | None
    """Which of the tokens are learned, shape [length]; None: all."""


class TokenDataset(Dataset[Sample]):
    """Map-style: item i is sequence i of the plan. Reading one costs a few microseconds."""

    def __init__(self, store: TokenStore, plan: Plan):
        self.store = store
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Sample:
        starts, lengths = self.plan.sequence(int(index))
        stops = list(itertools.accumulate(lengths))
        ids = np.empty(stops[-1], dtype=np.int64)
        learned = np.empty(stops[-1], dtype=bool) if self.store.masked else None
        for start, length, stop in zip(starts, lengths, stops, strict=True):
            ids[stop - length : stop] = self.store.read(start, start + length)
            if learned is not None:
                learned[stop - length : stop] = self.store.read(start, start + length, "loss_mask")
        return Sample(input_ids=ids, segments=self.plan.segments(int(index), lengths), learned=learned)

    def documents(self, indices: Iterable[int]) -> list[int]:
        """The numbers in the store of the documents that some sequences are made of, ascending.

        It looks at every document of the store: for messages, not for training.
        """
        starts = [start for index in indices for start in self.plan.sequence(int(index))[0]]
        ends = np.cumsum(self.store.lengths, dtype=np.int64)
        return np.unique(np.searchsorted(ends, starts, side="right")).tolist()


@dataclass(frozen=True)
class Collator:
    """Makes a micro batch of samples: `input_ids` and `labels`, int64 of shape [len(samples), block_size].

    A sequence shorter than block_size is filled up on the right with id 0 and labels -100. Attention is causal, so
    no real token sees the filling, and no attention mask is needed. `labels` are the ids that are learned, and -100 for
    the others; models shift them.

    With `isolate` the pieces of a sequence do not see each other. `position_ids` start from 0 in every piece, which is
    how transformers knows packed sequences when there is no attention mask, and the label of a piece's first token,
    which the piece before would have to predict, is -100. Pieces of 3 and 2 tokens and a block of 6 have the positions
    0 1 2 0 1 0.

    With `flatten`, for FlashAttention, which isolates by cumulative lengths and needs no filling, the batch is one row
    of all tokens, shape [1, tokens], with `cu_seq_lens_q`, `cu_seq_lens_k` (int32, [pieces + 1]) and `max_length_q`,
    `max_length_k`.
    """

    block_size: int
    isolate: bool = False
    flatten: bool = False

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        if self.isolate and self.flatten:
            return self._flat(samples)
        shape = (len(samples), self.block_size)
        input_ids, labels = np.zeros(shape, np.int64), np.full(shape, IGNORE, np.int64)
        positions = np.zeros(shape, np.int64)
        for row, sample in enumerate(samples):
            ids, segments = sample["input_ids"], sample["segments"]
            input_ids[row, : len(ids)] = ids
            labels[row, : len(ids)] = _labels(sample)
            if self.isolate:
                starts = np.cumsum(segments) - segments
                labels[row, starts] = IGNORE
                positions[row] = _positions(np.append(segments, self.block_size - len(ids)))
        batch = {"input_ids": input_ids, "labels": labels, **({"position_ids": positions} if self.isolate else {})}
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _flat(self, samples: list[Sample]) -> dict[str, Any]:
        input_ids = np.concatenate([np.empty(0, np.int64), *(sample["input_ids"] for sample in samples)])
        segments = np.concatenate([np.empty(0, np.int64), *(sample["segments"] for sample in samples)])
        ends = np.cumsum(segments)
        labels = np.concatenate([np.empty(0, np.int64), *map(_labels, samples)])
        labels[ends - segments] = IGNORE
        bounds = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32))
        longest = int(segments.max(initial=0))
        rows = {"input_ids": input_ids, "labels": labels, "position_ids": _positions(segments)}
        return {
            **{name: torch.from_numpy(array)[None] for name, array in rows.items()},
            **{"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest},
        }


def _labels(sample: Sample) -> npt.NDArray[np.int64]:
    ids, learned = sample["input_ids"], sample["learned"]
    return ids if learned is None else np.where(learned, ids, IGNORE)


def _positions(segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts from 0 in every segment: lengths of 3 and 2 give 0 1 2 0 1."""
    starts = np.cumsum(segments) - segments
    return np.arange(int(segments.sum())) - np.repeat(starts, segments)


@dataclass(frozen=True)
class Datasets:
    train: TokenDataset
    evaluation: TokenDataset | None
    """The documents held out; None when there are none."""


def open_datasets(directory: Path, data: DataConfig, seed: int) -> Datasets:
    """The training and the held-out sequences of a store.

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
    return Datasets(TokenDataset(store, plans.train), evaluation)
