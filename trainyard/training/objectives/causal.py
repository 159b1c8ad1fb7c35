"""The loss of a causal language model: the mean negative log-likelihood of the learned tokens."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers.trainer_pt_utils import LabelSmoother

from trainyard.data.batches.collator import IGNORE
from trainyard.training.objectives.objective import Batch, Metrics
from trainyard.training.objectives.router import router_loss


@dataclass(frozen=True)
class CausalLoss:
    """Every learned token is predicted from those before it; `labels` mark the learned ones, see Collator.

    In training a mixture of experts adds the auxiliary loss of its routers, see router.py.
    """

    label_smoothing: float = 0.0
    """Share of the target that is spread over the whole vocabulary, in training only (Szegedy et al., 2016)."""

    def __call__(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        if batch["input_ids"].numel() == 0:
            batch = _stand_in(batch)
        labels, count = batch["labels"], batch.get("num_items_in_batch")
        if self.label_smoothing and model.training:
            outputs = model(**{name: value for name, value in batch.items() if name != "labels"})
            smoothed = LabelSmoother(self.label_smoothing)
            loss = smoothed(outputs, labels, shift_labels=True, num_items_in_batch=count)
            router = router_loss(model, outputs, batch, labels)
        else:
            outputs = model(**batch)
            router = router_loss(model, outputs, batch, labels)
            loss = outputs.loss if router is None else outputs.loss - router.coefficient * router.own
        if router is None:
            return loss, {}
        balanced = loss + router.coefficient * router.shared if model.training else loss  # no part of the perplexity
        return balanced, {"router_loss": router.shared}

    def items(self, batch: Batch) -> torch.Tensor:
        """Learned tokens; the first of a row has nothing to be predicted from."""
        return batch["labels"][:, 1:].ne(IGNORE).sum()

    def derived(self, loss: float) -> dict[str, float]:
        """The perplexity, bounded so that it stays a number."""
        return {"perplexity": math.exp(min(loss, 700.0))}


def _stand_in(batch: Batch) -> Batch:
    """A row of two tokens for a batch without any, with which the model cannot run."""
    row = torch.zeros(1, 2, dtype=torch.int64, device=batch["input_ids"].device)
    count = {name: batch[name] for name in ("num_items_in_batch",) if name in batch}
    return {"input_ids": row, "labels": row, **count}
