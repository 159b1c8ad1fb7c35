"""The contract between the training loop and what it minimises."""

from typing import Any, Protocol

import torch

Batch = dict[str, Any]
"""A micro batch as the collator makes it, its tensors on the rank's device."""

Metrics = dict[str, torch.Tensor]
"""Further figures of a micro batch by name, scalars without a gradient, in the same order on every rank."""


class Objective(Protocol):
    """A loss that is a mean over items: learned tokens for a causal language model, pairs for a preference loss.

    The mean is over the items of the whole global batch, however it is divided among ranks and micro batches. So the
    loop counts the items of all micro batches of a step first, and hands the number to each as
    `batch["num_items_in_batch"]`, a float32 scalar.
    """

    def __call__(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        """The loss of a micro batch, and its metrics.

        Both are sums over the batch's own items divided by `batch["num_items_in_batch"]`, so that their sum over ranks
        and micro batches is the mean over the global batch. Without that key, which a model may not take, both are
        means over the batch.

        The model must run forward once in every call, also for a batch without items, which some ranks get at the end
        of an evaluation: under ZeRO-3 all ranks gather the weights together. The loss of such a batch is ignored.
        """
        ...

    def items(self, batch: Batch) -> torch.Tensor:
        """The number of items in a micro batch, an int64 scalar."""
        ...

    def derived(self, loss: float) -> dict[str, float]:
        """Figures of an evaluation that follow from its mean loss, by name."""
        ...
