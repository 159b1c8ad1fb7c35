"""Adapters in front of frozen weights, through peft."""

from typing import Any

import torch

from trainyard.schema import PeftConfig


def adapt(model: Any, peft: PeftConfig, *, seed: int) -> Any:
    """The model with adapters as `peft` says, or as it is. The adapters' first weights follow from `seed` alone.

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
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return get_peft_model(model, config)
    finally:
        torch.random.set_rng_state(state)
