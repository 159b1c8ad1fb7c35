"""What is wrong with a DeepSpeed JSON: found from its keys and values alone, without DeepSpeed."""

import json
from collections.abc import Iterator
from typing import Any

from trainyard.config import deepspeed_keys as keys
from trainyard.config.schema import TrainerConfig
from trainyard.errors import did_you_mean

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list"}

ADAM = ("adam", "adamw")


SAME_AS_TRAINER = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "bf16.enabled", "fp16.enabled", "optimizer.params.lr", "optimizer.params.weight_decay", "optimizer.params.betas",
    "optimizer.params.eps", "scheduler.params.warmup_max_lr", "scheduler.params.warmup_num_steps",
    "scheduler.params.total_num_steps",
)  # fmt: skip
"""Keys that have the meaning of a setting of trainer, and may not contradict it."""


def malformed(values: dict[str, Any]) -> list[str]:
    """A message for each key or value that fails only once the ranks are up, or has another effect than it says.

    `contradictions`, and the functions of trainyard.config.deepspeed, expect an object for which this list is empty.
    """
    zero = values.get("zero_optimization")
    if not isinstance(zero, dict):
        found = json.dumps(zero) if "zero_optimization" in values else "missing"
        return [f"zero_optimization is {found}: must be an object with a stage; plain DDP is deepspeed=none"]
    stage = zero.get("stage")
    if isinstance(stage, bool) or stage not in (1, 2, 3):
        return [f"zero_optimization.stage is {_shown(stage)}: must be 1, 2 or 3; plain DDP is deepspeed=none"]
    problems = list(_refused(values)) + list(_unknown(values, keys.TOP))
    if problems:
        return problems
    return [*_zero(values, zero), *_optimizer(values, zero), *_scheduler(values)]


def _refused(values: dict[str, Any]) -> Iterator[str]:
    for key, reason in keys.REFUSED.items():
        fails_over_the_word = reason == keys.REMOVED and key in values
        if fails_over_the_word or not _is_off(lookup(values, key)):
            yield f"{key}: {reason}; leave it out"
    checkpointing = values.get("activation_checkpointing")
    if isinstance(checkpointing, dict) and any(checkpointing.values()):
        yield (
            "activation_checkpointing: it has no effect on a model of Hugging Face; set "
            "trainer.gradient_checkpointing=true, and leave it out"
        )


def _is_off(value: Any) -> bool:
    """Is a feature absent or switched off? An object is off if it is empty or says so, as `"enabled": false`."""
    if isinstance(value, dict):
        switches = [value[name] for name in ("enabled", "deepcompile", "autotp_size") if name in value]
        return not value or (switches != [] and not any(switches))
    return value is None or (isinstance(value, bool | int) and value in (False, 1) and value is not True)


def _unknown(values: dict[str, Any], table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A message for each key that DeepSpeed does not have, and for each value of another type."""
    for key, value in values.items():
        name = prefix + key
        if prefix == "zero_optimization." and key in keys.RENAMED:
            yield f"{name}: an old name; {keys.RENAMED[key] if value else 'leave it out'}"
        elif key not in table:
            yield f"{name}: DeepSpeed has no such key. {did_you_mean(key, table, 'Leave it out')}"
        elif isinstance(table[key], dict):
            if isinstance(value, dict):
                yield from _unknown(value, table[key], f"{name}.")
            else:
                yield f"{key} is {_shown(value)}: must be an object; leave it out to switch it off"
        elif value == "auto":
            if name not in keys.AUTO and not name.startswith(keys.AUTO_IS_DEFAULT):
                yield f'{name} is "auto": the Trainer does not fill it in; give a value, or leave it out'
        elif not _fits(value, table[key]):
            yield f"{name} is {_shown(value)}: must be {_KINDS.get(table[key], 'an object')}"


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any or (value is None and kind is not dict):
        return True
    if kind in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind is float or value == int(value))
    return isinstance(value, kind)


def _zero(values: dict[str, Any], zero: dict[str, Any]) -> Iterator[str]:
    stage = zero["stage"]
    for key in ("stage3_gather_16bit_weights_on_model_save", "gather_16bit_weights_on_model_save"):
        if stage == 3 and zero.get(key) is False:
            yield f"{key} is false: the model would be saved without weights"
    if zero.get("compute_grad_norm") is False:
        yield "zero_optimization.compute_grad_norm is false: a NaN gradient would be applied; leave it out"
    if (values.get("bf16") or {}).get("check_grad_overflow") is False:
        yield "bf16.check_grad_overflow is false: a NaN gradient would be applied; leave it out"
    if values.get("gradient_allreduce_op", "mean") != "mean":
        yield "gradient_allreduce_op: the gradients would grow with the number of ranks; leave it out"
    bf16 = values.get("bf16") or {}
    if bf16.get("bf16_optimizer_states") and not bf16.get("bf16_master_weights_and_grads"):
        yield "bf16.bf16_optimizer_states is true: needs bf16_master_weights_and_grads, which is not"
    for part in ("offload_optimizer", "offload_param"):
        device = (zero.get(part) or {}).get("device", "none")
        if device not in ("none", "cpu", "nvme", "auto"):
            yield f"{part}.device is {device}: must be none, cpu or nvme"
        if device == "nvme" and not zero[part].get("nvme_path"):
            yield f"{part}.device is nvme: needs nvme_path, a folder on that disk"
        if device not in ("none", "auto") and part == "offload_param" and stage != 3:
            yield f"offload_param: parameters are divided under stage 3 only, and this is {stage}; leave it out"
        if device not in ("none", "auto") and "optimizer" not in values:
            yield f'{part} needs an "optimizer" section, as in ds_configs/zero2_offload.json'
            return


def _optimizer(values: dict[str, Any], zero: dict[str, Any]) -> Iterator[str]:
    section = values.get("optimizer")
    if section is None:
        return
    kind, params = str(section.get("type", "")), _or(section.get("params"), {})
    name, legal = kind.lower(), ", ".join(["Adam, AdamW, Muon, Lion", *keys.UNTESTED.values()])
    if "max_grad_norm" in params:
        yield "optimizer.params.max_grad_norm: the norm is trainer.max_grad_norm; leave it out"
    if not isinstance(params, dict):
        yield f"optimizer.params is {_shown(params)}: must be an object"
    elif name == "lamb":
        yield f"optimizer.type is {kind}: its trust ratio is one per layer, and ZeRO knows no layers; take {legal}"
    elif name not in keys.OPTIMIZERS or (name in keys.UNTESTED and kind != keys.UNTESTED[name]):
        yield f"optimizer.type is {kind or None}: DeepSpeed does not have it, or not under ZeRO; take {legal}"
    else:
        given = {key: value for key, value in params.items() if key != "max_grad_norm"}
        yield from _unknown(given, keys.OPTIMIZERS[name], "optimizer.params.")
        if name in keys.UNTESTED and values.get("zero_allow_untested_optimizer") is not True:
            yield f'optimizer.type is {kind}: DeepSpeed takes it with "zero_allow_untested_optimizer": true only'
        if name == "muon" and zero["stage"] == 3 and zero.get("reduce_scatter", True):
            yield 'optimizer.type is Muon: under stage 3 it needs "reduce_scatter": false in zero_optimization'


def _scheduler(values: dict[str, Any]) -> Iterator[str]:
    section = values.get("scheduler")
    if section is None:
        return
    kind, params = section.get("type"), _or(section.get("params"), {})
    if kind not in keys.SCHEDULERS:
        yield f"scheduler.type is {kind}: must be one of {', '.join(keys.SCHEDULERS)}"
    elif not isinstance(params, dict):
        yield f"scheduler.params is {_shown(params)}: must be an object"
    else:
        yield from _unknown(params, keys.SCHEDULERS[kind], "scheduler.params.")
        if isinstance(params.get("warmup_num_steps"), int) and params["warmup_num_steps"] < 1:
            yield f'scheduler.params.warmup_num_steps is {params["warmup_num_steps"]}: must be at least 1; write "auto"'
        if params.get("warmup_type", "log") not in ("log", "linear"):
            yield f"scheduler.params.warmup_type is {params['warmup_type']}: must be log or linear"
        if "total_num_steps" in keys.SCHEDULERS[kind] and "total_num_steps" not in params:
            yield f'scheduler.type is {kind}: needs "total_num_steps": "auto" in its params'


def contradictions(values: dict[str, Any], trainer: TrainerConfig) -> list[str]:
    """A message for each value of the JSON that differs from the trainer setting of the same meaning.

    "auto" and a missing key agree with every setting. The batch sizes and the precision of `trainer` are resolved.
    """
    extra = vars(trainer)
    betas = [_or(extra.get("adam_beta1"), 0.9), _or(extra.get("adam_beta2"), 0.999)]
    pairs: dict[str, tuple[str, Any]] = {
        "train_batch_size": ("global_batch_size", trainer.global_batch_size),
        "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", trainer.per_device_train_batch_size),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", trainer.gradient_accumulation_steps),
        "gradient_clipping": ("max_grad_norm", trainer.max_grad_norm),
        "bf16.enabled": ("bf16", bool(trainer.bf16)),
        "fp16.enabled": ("fp16", bool(trainer.fp16)),
        "optimizer.params.lr": ("learning_rate", trainer.learning_rate),
        "optimizer.params.weight_decay": ("weight_decay", _or(extra.get("weight_decay"), 0.0)),
        "optimizer.params.betas": ("adam_beta1 and adam_beta2", betas),
        "optimizer.params.eps": ("adam_epsilon", _or(extra.get("adam_epsilon"), 1e-8)),
        "scheduler.params.warmup_max_lr": ("learning_rate", trainer.learning_rate),
        "scheduler.params.warmup_num_steps": ("warmup_steps", _or(extra.get("warmup_steps"), 0)),
    }
    if trainer.max_steps > 0:
        pairs["scheduler.params.total_num_steps"] = ("max_steps", trainer.max_steps)
    assert set(pairs) <= set(SAME_AS_TRAINER)
    problems = []
    for key, (name, wanted) in pairs.items():
        found = lookup(values, key)
        if found not in (None, "auto") and found != wanted:
            problems.append(
                f"{key} is {found} in the DeepSpeed JSON, but trainer.{name} is {wanted}: "
                f'make them equal, or write "auto" in the JSON'
            )
    return [*problems, *_two_of_a_kind(values, trainer)]


def _two_of_a_kind(values: dict[str, Any], trainer: TrainerConfig) -> Iterator[str]:
    """Messages where the JSON's optimizer or schedule would take the place of another one that is asked for."""
    optim, optimizer = vars(trainer).get("optim"), lookup(values, "optimizer.type")
    if optim and optimizer and not (optim.startswith("adamw_torch") and str(optimizer).lower() in ADAM):
        yield (
            f"optimizer.type is {optimizer} in the DeepSpeed JSON, and would be taken instead of "
            f"trainer.optim={optim}: leave one of them out"
        )
    scheduler = lookup(values, "scheduler.type")
    same = keys.SAME_SCHEDULE.get(str(scheduler))
    if same and trainer.lr_scheduler_type != same:
        yield (
            f"scheduler.type is {scheduler} in the DeepSpeed JSON, and would be taken instead of "
            f"trainer.lr_scheduler_type={trainer.lr_scheduler_type}: set it to {same}, or leave out the scheduler"
        )


def lookup(values: dict[str, Any], dotted: str) -> Any:
    """The value under a dotted key; None where there is none."""
    node: Any = values
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
