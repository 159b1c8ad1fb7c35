"""Samples to micro batches: tensors of ids, labels and, where documents are kept apart, positions."""

import inspect
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from trainyard.config.schema import Config

IGNORE = -100
"""The label of a token that the loss does not count."""


class Sample(TypedDict):
    """One training sequence."""

    input_ids: npt.NDArray[np.int64]
    """Token ids, shape [length], length <= block_size."""
    segments: npt.NDArray[np.int64]
    """Tokens of each document in the sequence, in order; they add up to its length."""
    loss_mask: npt.NDArray[np.bool_] | None
    """The tokens that the loss counts, shape [length]; None: all of them."""


@dataclass(frozen=True)
class Collator:
    """Makes a micro batch of samples: `input_ids` and `labels`, int64 of shape [len(samples), block_size].

    A sequence shorter than block_size is filled up on the right with id 0 and label -100. Attention is causal, so no
    real token sees the filling, and no attention mask is needed. `labels` are the ids where the loss mask is true, and
    -100 elsewhere; models shift them.

    With `isolate` the documents of a sequence do not see each other. `position_ids` start from 0 in every document,
    which tells transformers where packed documents begin when there is no attention mask. The label of a document's
    first token is -100, because the document before would have to predict it. In a block of 6, documents of 3 and 2
    tokens with the ids 5 6 7 and 8 9 give

        input_ids      5    6    7    8    9    0
        position_ids   0    1    2    0    1    0
        labels      -100    6    7 -100    9 -100

    With `isolate` and `flatten`, for FlashAttention, which isolates by cumulative lengths and needs no filling, the
    batch is one row of all tokens, shape [1, tokens], with `cu_seq_lens_q`, `cu_seq_lens_k` (int32, shape
    [documents + 1]) and `max_length_q`, `max_length_k`.
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
    ids, loss_mask = sample["input_ids"], sample["loss_mask"]
    return ids if loss_mask is None else np.where(loss_mask, ids, IGNORE)


def _positions(segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts from 0 in every segment: lengths of 3 and 2 give 0 1 2 0 1."""
    starts = np.cumsum(segments) - segments
    return np.arange(int(segments.sum())) - np.repeat(starts, segments)


def collator_for(config: Config, model: Any) -> Collator:
    """The collator for this model's attention.

    Raises:
        ValueError: documents are to be isolated, and the model takes no position_ids.
    """
    isolate = config.data.isolate_documents
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isolate and "position_ids" not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"data.isolate_documents=true: {type(model).__name__} takes no position_ids, by which documents are kept "
            f"apart; set it to false, or data.packing=padded"
        )
    attention = str(getattr(model.config, "_attn_implementation", ""))
    return Collator(config.data.sequence_length, isolate, flatten="flash" in attention)
