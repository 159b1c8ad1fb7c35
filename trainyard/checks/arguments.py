"""The checks of TrainingArguments that transformers would make in the ranks, or not at all."""

import re
from collections.abc import Iterator

from trainyard.config.schema import TrainerConfig
from trainyard.machine.installed import folder

LEAST = {
    "warmup_steps": 0,
    "weight_decay": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "neftune_noise_alpha": 0,
    "eval_delay": 0,
    "early_stopping_threshold": 0,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "torch_empty_cache_steps": 1,
    "eval_accumulation_steps": 1,
    "ddp_bucket_cap_mb": 1,
}
"""Numbers with a lower bound, and the bound."""

SHARES = {"adam_beta1": "below 1", "adam_beta2": "below 1", "label_smoothing_factor": "at most 1"}
"""Numbers from 0 to 1, and whether 1 is one of them."""

LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")

WORDS = {
    "log_level": LOG_LEVELS,
    "log_level_replica": LOG_LEVELS,
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
    "include_num_input_tokens_seen": (True, False, "all", "non_padding", "no"),
    "debug": ("", "underflow_overflow"),
}
"""Legal values of arguments whose type names none."""

MAPPINGS = {
    "gradient_checkpointing_kwargs": ("use_reentrant", "determinism_check", "preserve_rng_state", "early_stop"),
    "activation_checkpointing_kwargs": ("use_reentrant", "determinism_check", "preserve_rng_state", "early_stop"),
    "liger_kernel_config": (
        "rope", "rms_norm", "swiglu", "geglu", "layer_norm", "cross_entropy", "fused_linear_cross_entropy",
    ),
}  # fmt: skip
"""Legal keys of arguments that are mappings: parameters of torch.utils.checkpoint, and Liger's switches."""


def argument_problems(trainer: TrainerConfig) -> Iterator[str]:
    """A message for each argument outside its range or its choices."""
    given = {name: value for name, value in vars(trainer).items() if value is not None}
    for name, least in LEAST.items():
        if name in given and given[name] < least:
            yield f"trainer.{name}={given[name]:g}: must be at least {least}"
    for name, end in SHARES.items():
        if name in given and not (0 <= given[name] < 1 or (given[name] == 1 and end == "at most 1")):
            yield f"trainer.{name}={given[name]:g}: must be at least 0 and {end}"
    for name, words in (WORDS | {"torch_compile_backend": _backends(given.get("torch_compile_backend"))}).items():
        if words and name in given and given[name] not in words:
            yield f"trainer.{name}={given[name]}: must be one of {', '.join(str(word) for word in words if word != '')}"
    for name, keys in MAPPINGS.items():
        value = given.get(name, {})
        if not isinstance(value, dict):
            yield f"trainer.{name}={value}: must be a mapping, as {{{keys[0]}: false}}"
        else:
            yield from (
                f"trainer.{name}.{key}: there is none; there are {', '.join(keys)}" for key in value if key not in keys
            )
    if trainer.max_steps == 0 or trainer.max_steps < -1:
        yield f"trainer.max_steps={trainer.max_steps}: must be at least 1, or -1 for trainer.num_train_epochs to decide"
    warmup = given.get("warmup_steps", 0)
    if warmup > 1 and warmup % 1:
        yield f"trainer.warmup_steps={warmup:g}: must be a whole number of steps, or a share of the run below 1"
    if given.get("dataloader_prefetch_factor") and not trainer.dataloader_num_workers:
        yield (
            f"trainer.dataloader_prefetch_factor={given['dataloader_prefetch_factor']}: "
            f"only data workers read ahead; set trainer.dataloader_num_workers=1 or more"
        )
    if given.get("bf16_full_eval") and given.get("fp16_full_eval"):
        yield "trainer.bf16_full_eval=true and trainer.fp16_full_eval=true: choose one"
    if trainer.gradient_checkpointing and given.get("activation_checkpointing") is False:
        yield "trainer.gradient_checkpointing=true and trainer.activation_checkpointing=false: two names of one switch"


def _backends(given: str | None) -> tuple[str, ...]:
    """The names of torch_compile_backend, from accelerate's source; empty when none is asked for."""
    package = folder("accelerate") if given is not None else None
    if package is None:
        return ()
    source = (package / "utils" / "dataclasses.py").read_text(encoding="utf-8")
    listed = source.partition("class DynamoBackend")[2].partition("\nclass ")[0]
    return tuple(name.lower() for name in re.findall(r'^    ([A-Z][A-Z0-9_]+) = "', listed, re.MULTILINE))
