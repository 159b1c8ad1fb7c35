"""The optimizers of trainer.optim: which of them train under ZeRO, and resume, as they do by themselves."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.config.schema import Config, TrainerConfig

INSTEAD = "take trainer.optim=adamw_torch"

SCHEDULE_FREE = ("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd")

OTHER_UNDER_ZERO = {
    "adafactor": "its row and column means need whole matrices",
    "stable_adamw": "it scales the step of each tensor by that tensor's norm",
    "grokadamw": "it clips and filters the gradient of each tensor by itself",
}
"""Optimizers that look at a whole tensor. ZeRO hands them flat pieces of many, on which they compute something else."""

ZERO_FAILS = {
    "adagrad": "its states are made before ZeRO divides the weights",
    **dict.fromkeys(SCHEDULE_FREE, "the weights of its evaluations are never gathered from the ranks"),
}
"""Optimizers that work by themselves only."""

NOT_RESUMED = {
    **dict.fromkeys(
        ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
         "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw", "apollo_adamw_layerwise"),
        "its states cannot be loaded again, so no checkpoint could be resumed",
    ),
    **dict.fromkeys(("lomo", "adalomo"), "a resumed run would not be the same as an undisturbed one"),
    "adamw_torch_xla": "it needs an XLA device, which is not detected",
    "adamw_torch_npu_fused": "it needs an NPU, which is not detected",
}  # fmt: skip
"""Optimizers that no run can use, each with the reason."""

_MIX = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
ARGS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"), _MIX),
    **dict.fromkeys(
        ("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        ("alpha", "eps", "weight_decay", "momentum", "centered"),
    ),
    **dict.fromkeys(SCHEDULE_FREE, ("weight_lr_power", "r")),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), ("block_size", "bf16_stochastic_round")),
    "stable_adamw": ("decouple_lr", "max_lr", "kahan_sum"),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "adamw_anyprecision": ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"),
}
"""Names in trainer.optim_args by optimizer. Others take none, and transformers passes over what it does not know."""


def optimizer_problems(config: Config) -> Iterator[str]:
    """A message for each optimizer that would train otherwise than it says, or could not go on after a stop."""
    extra = vars(config.trainer)
    name = extra.get("optim")
    if name in NOT_RESUMED:
        yield f"trainer.optim={name}: {NOT_RESUMED[name]}; {INSTEAD}"
    elif config.deepspeed.config is not None and name in OTHER_UNDER_ZERO:
        why = OTHER_UNDER_ZERO[name]
        yield (
            f"trainer.optim={name}: {why}, and ZeRO hands it flat pieces: another algorithm; set deepspeed=none, or "
            f"{INSTEAD}"
        )
    elif config.deepspeed.config is not None and name in ZERO_FAILS:
        yield f"trainer.optim={name}: fails under ZeRO, {ZERO_FAILS[name]}; set deepspeed=none, or {INSTEAD}"
    if name in SCHEDULE_FREE and config.trainer.load_best_model_at_end:
        yield (
            f"trainer.load_best_model_at_end=true: a checkpoint of {name} may hold the weights of the training and not "
            f"those that were evaluated; leave it out"
        )
    if extra.get("optim_target_modules") is not None:
        yield "trainer.optim_target_modules: only optimizers that are refused here read it; leave it out"
    yield from _args(name or "adamw_torch", extra.get("optim_args"), config.trainer)


def _args(optimizer: str, given: Any, trainer: TrainerConfig) -> Iterator[str]:
    if not given:
        return
    pairs = [each.partition("=") for each in str(given).replace(" ", "").split(",")]
    known = ARGS.get(optimizer, ())
    for key, equals, value in pairs:
        if not (equals and value and re.fullmatch(r"\w+", key)):
            yield f"trainer.optim_args={given}: must be pairs, as 'trainer.optim_args=\"momentum=0.9,nesterov=true\"'"
            return
        if key not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            yield f"trainer.optim_args={given}: {optimizer} has no {key}, it {takes}"
