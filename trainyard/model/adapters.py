"""Adapters in front of frozen weights, through peft."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from trainyard import compat
from trainyard.config.schema import PeftConfig


def without_adapters(model: Any) -> Any:
    """The model of transformers with the adapters inside, from one that peft has wrapped; any other is returned."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def adapt(model: Any, peft: PeftConfig, *, seed: int, added: Sequence[int] = ()) -> Any:
    """The model with the adapters of `peft`; unchanged without a method. `seed` alone decides their first weights.

    Args:
        added: ids of the tokens added to the tokenizer; their rows are trained and saved with the adapter.

    Raises:
        ValueError: the target modules match nothing in the model.
    """
    if peft.method is None:
        return model
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=peft.r,
        lora_alpha=peft.alpha,
        lora_dropout=peft.dropout,
        target_modules=peft.target_modules,
        trainable_token_indices=_rows(model, added) if added else None,
    )
    if added:
        compat.collect_token_rows_on_any_device()
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        adapted: Any = get_peft_model(model, config)
    finally:
        torch.random.set_rng_state(state)
    if added and is_deepspeed_zero3_enabled():
        compat.announce_token_rows(adapted)
    return adapted


def _rows(model: Any, added: Sequence[int]) -> dict[str, list[int]]:
    """The rows to train by layer: of the embeddings, and of the output layer unless it is tied to them."""
    layers = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: list(added) for layer in layers}
