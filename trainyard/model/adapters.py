"""Adapters in front of frozen weights, through peft."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from trainyard.config.schema import PeftConfig


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
        _collect_rows_on_any_device()
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        adapted: Any = get_peft_model(model, config)
    finally:
        torch.random.set_rng_state(state)
    if added:  # of a table that has grown, peft would save every row, not only the trained ones
        adapted.save_pretrained = functools.partial(adapted.save_pretrained, save_embedding_layers=False)
    if added and is_deepspeed_zero3_enabled():
        _announce_rows(adapted)
    return adapted


def _rows(model: Any, added: Sequence[int]) -> dict[str, list[int]]:
    """The rows to train by layer: of the embeddings, and of the output layer unless it is tied to them."""
    layers = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: list(added) for layer in layers}


def _collect_rows_on_any_device() -> None:
    """Under ZeRO-3 peft (0.21) reads the rows of added tokens through a CUDA device, which a CPU rank does not have."""
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
    from peft.utils.integrations import gather_params_ctx

    def collect(self: Any, weight: torch.nn.Parameter, rows: list[int], embed_dim: int) -> Any:
        with gather_params_ctx([weight], modifier_rank=None):  # every rank then has all of it
            return weight[rows].detach().clone()

    TrainableTokensLayer._collect_token_weights = collect  # type: ignore


def _announce_rows(model: Any) -> None:
    """Tells ZeRO-3 to gather the rows and the table of such a layer, which lie in modules that are never called."""
    import deepspeed
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    for layer in model.modules():
        if isinstance(layer, TrainableTokensLayer):
            for parameter in (*layer.trainable_tokens_delta.values(), layer.base_layer.weight):
                deepspeed.zero.register_external_parameter(layer, parameter)
