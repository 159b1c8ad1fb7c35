"""What a changed DeepSpeed JSON would change of what a resumed run learns."""

from collections.abc import Iterator
from typing import Any

from trainyard.config import deepspeed
from trainyard.config.deepspeed_rules import SAME_AS_TRAINER
from trainyard.config.saved import flat
from trainyard.config.schema import Config

EXACT = (
    "optimizer.", "scheduler.", "fp16.", "bf16.", "data_types.", "torch_autocast.", "communication_data_type",
    "prescale_gradients", "gradient_predivide_factor", "zero_optimization.zenflow", "zero_optimization.zero_quantized",
)  # fmt: skip
"""Starts of the keys that change what is learned. A stage, a bucket or an offload may change at every start."""

NOT_EXACT = (*SAME_AS_TRAINER, "optimizer.params.torch_adam")
"""Keys under EXACT that are compared as settings of trainer, or that trainyard sets by the device."""

DEFAULTS: dict[str, Any] = {
    "optimizer.type": "AdamW", "optimizer.params.adam_w_mode": True, "optimizer.params.bias_correction": True,
    "optimizer.params.amsgrad": False, "scheduler.params.warmup_type": "log", "scheduler.params.warmup_min_lr": 0,
    "scheduler.params.warmup_min_ratio": 0, "scheduler.params.cos_min_ratio": 0.0001,
    "fp16.loss_scale": 0, "fp16.initial_scale_power": 16, "fp16.loss_scale_window": 1000, "fp16.hysteresis": 2,
    "fp16.min_loss_scale": 1, "fp16.consecutive_hysteresis": False, "fp16.auto_cast": False,
    "fp16.fp16_master_weights_and_grads": False, "bf16.immediate_grad_update": False,
    "bf16.check_grad_overflow": True, "bf16.bf16_master_weights_and_grads": False,
    "bf16.bf16_optimizer_states": False, "prescale_gradients": False, "gradient_predivide_factor": 1.0,
    "torch_autocast.enabled": False, "zero_optimization.zero_quantized_weights": False,
    "zero_optimization.zero_quantized_nontrainable_weights": False, "zero_optimization.zero_quantized_gradients": False,
}  # fmt: skip
"""Values of keys that a JSON leaves out. Without an optimizer the Trainer's own is taken, an AdamW by default."""


def json_changes(before: Config, recorded: dict[str, Any], now: Config) -> Iterator[tuple[str, Any, Any]]:
    """Each key under EXACT that differs from the run's last start, as `deepspeed.config.<key>`, old value, new value.

    Args:
        recorded: the run's deepspeed.json; empty where it has none.
    """
    if before.deepspeed.config is not None and not recorded:
        return  # that start never came to its first step
    old = _values(recorded if before.deepspeed.config is not None else {})
    new = _values(deepspeed.read(now.deepspeed.config) if now.deepspeed.config is not None else {})
    for key in dict.fromkeys([*old, *new]):
        if not key.startswith(EXACT) or key in NOT_EXACT or not _counts(key, now):
            continue
        was, becomes = (values.get(key, DEFAULTS.get(key)) for values in (old, new))
        if "auto" not in (was, becomes) and _plain(key, was) != _plain(key, becomes):
            yield f"deepspeed.config.{key}", was, becomes


def _values(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(values).items() if value is not None}


def _counts(key: str, config: Config) -> bool:
    """A section about a precision counts where the run computes in it."""
    return not key.startswith(("fp16.", "bf16.")) or bool(getattr(config.trainer, key.partition(".")[0]))


def _plain(key: str, value: Any) -> Any:
    return value.lower() if key.endswith(".type") and isinstance(value, str) else value
