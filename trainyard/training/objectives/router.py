"""The auxiliary loss of a mixture of experts, which balances its routers, as a mean over the items of a global batch.

transformers adds it to the loss of a micro batch whole, so that it grows with the accumulation and the ranks, and takes
the balance over whatever rows a micro batch has (https://github.com/huggingface/transformers/issues/48690). Here each
sequence has a balance of its own (each document, where FlashAttention gets all rows as one), weighted by its items: the
sum over micro batches and ranks is the same however the batch is divided.
"""

import sys
from typing import Any, NamedTuple

import torch

from trainyard.data.batches.collator import IGNORE
from trainyard.model.adapters import without_adapters
from trainyard.training.objectives.objective import Batch


class RouterLoss(NamedTuple):
    """The auxiliary loss of a micro batch."""

    own: torch.Tensor
    """As the library adds it to the loss of the batch."""
    shared: torch.Tensor
    """Its part of the mean over the items of the global batch, or the mean over this batch where no count is given."""
    coefficient: float


def router_loss(model: Any, outputs: Any, batch: Batch, labels: torch.Tensor) -> RouterLoss | None:
    """None for a model that gives none: without experts, or with output_router_logits=false.

    Raises:
        ValueError: the architecture has a form of this loss that is not known here.
    """
    own = getattr(outputs, "aux_loss", None)
    if own is None:
        return None
    network = _network(model)
    balance = getattr(sys.modules[type(network).__module__], "load_balancing_loss_func", None)
    settings = [_setting(network, *names) for names in (_COEFFICIENT, _EXPERTS, _CHOSEN)]
    if balance is None or None in settings or not outputs.router_logits:
        raise ValueError(
            f"model.config.output_router_logits=true: the auxiliary loss of {type(network).__name__} cannot be divided "
            f"among micro batches; set model.config.output_router_logits=false"
        )
    coefficient, experts, chosen = settings
    layers = [layer.reshape(-1, layer.shape[-1]) for layer in outputs.router_logits]
    bounds, items = _stretches(batch, labels)
    total = torch.zeros((), dtype=torch.float32, device=labels.device)
    for start, stop, count in zip(bounds, bounds[1:], items, strict=False):
        total = total + count * balance(tuple(layer[start:stop] for layer in layers), experts, chosen).to(total.device)
    counted = batch.get("num_items_in_batch")
    return RouterLoss(own, total / (items.sum().clamp(min=1) if counted is None else counted), float(coefficient))


_COEFFICIENT = ("router_aux_loss_coef", "aux_loss_coef")
_EXPERTS = ("num_experts", "num_local_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "top_k", "moe_k")


def _setting(network: Any, *names: str) -> Any:
    """The first of these attributes that the model, or its config, has."""
    places = (network, network.config.get_text_config())
    return next((getattr(place, name) for place in places for name in names if hasattr(place, name)), None)


def _stretches(batch: Batch, labels: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Bounds of the sequences among the tokens of the batch, and the items in each, int64 of shape [sequences]."""
    if "cu_seq_lens_q" in batch:
        bounds = batch["cu_seq_lens_q"].tolist()
        learned = torch.nn.functional.pad(labels.ne(IGNORE).reshape(-1).cumsum(0), (1, 0))[bounds]
        return bounds, learned.diff()
    rows, width = labels.shape
    return [row * width for row in range(rows + 1)], labels[:, 1:].ne(IGNORE).sum(1)


def _network(model: Any) -> Any:
    """The model of transformers inside what DeepSpeed, DDP and peft put around it."""
    while hasattr(model, "module"):
        model = model.module
    return without_adapters(model)
