"""DeepSpeed's JSON files, ours in ds_configs/ or a user's: found, read, checked, and completed for a launch."""

import json
from pathlib import Path
from typing import Any

from trainyard import SHIPPED
from trainyard.config.schema import TrainerConfig

DS_CONFIGS = SHIPPED / "ds_configs"


def find(config: str) -> Path:
    """The file behind deepspeed.config: `zero2` is ds_configs/zero2.json, any other value is a path."""
    named = DS_CONFIGS / f"{config}.json"
    return named if named.is_file() else Path(config).expanduser()


def read(config: str) -> dict[str, Any]:
    """The JSON object behind deepspeed.config.

    Raises:
        ValueError: the file is missing, is not JSON, or holds no object.
    """
    path = find(config)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(sorted(file.stem for file in DS_CONFIGS.glob("*.json")))
        raise ValueError(f"{path}: {error.strerror}. Give the path of a DeepSpeed JSON, or one of {names}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a DeepSpeed config is a JSON object, this is a {type(values).__name__}")
    return values


def malformed(values: dict[str, Any]) -> list[str]:
    """A message for each value that fails only once the ranks are up, loses weights, or lets NaN into them.

    The other functions of this file expect an object for which this list is empty.
    """
    zero = values.get("zero_optimization")
    if not isinstance(zero, dict):
        return [f"zero_optimization is {zero}: must be an object with a stage; plain DDP is deepspeed=none"]
    if zero.get("stage") not in (1, 2, 3):
        return [f"zero_optimization.stage is {zero.get('stage')}: must be 1, 2 or 3; plain DDP is deepspeed=none"]
    problems = []
    for part in ("offload_optimizer", "offload_param", "optimizer", "scheduler", "bf16", "fp16"):
        holder = zero if part.startswith("offload") else values
        if part in holder and not isinstance(holder[part], dict):
            problems.append(f"{part} is {json.dumps(holder[part])}: must be an object; leave it out to switch it off")
    if not problems and offloads(values) and zero.get("offload_optimizer") and "optimizer" not in values:
        problems.append('offload_optimizer needs an "optimizer" section, as in ds_configs/zero2_offload.json')
    if zero["stage"] == 3 and zero.get("stage3_gather_16bit_weights_on_model_save") is False:
        problems.append("stage3_gather_16bit_weights_on_model_save is false: the model would be saved without weights")
    if zero.get("compute_grad_norm") is False:
        problems.append("zero_optimization.compute_grad_norm is false: a NaN gradient would be applied; leave it out")
    if isinstance(values.get("bf16"), dict) and values["bf16"].get("check_grad_overflow") is False:
        problems.append("bf16.check_grad_overflow is false: a NaN gradient would be applied; leave it out")
    return problems


def stage(values: dict[str, Any]) -> int:
    """The ZeRO stage: 1, 2 or 3."""
    return int(values["zero_optimization"]["stage"])


def offloads(values: dict[str, Any]) -> bool:
    """Are optimizer states or parameters kept in host memory or on disk?"""
    parts = (values["zero_optimization"].get(part, {}) for part in ("offload_optimizer", "offload_param"))
    return any(part.get("device", "none") != "none" for part in parts)


def contradictions(values: dict[str, Any], trainer: TrainerConfig) -> list[str]:
    """A message for each value of the JSON that differs from the trainer setting of the same meaning.

    "auto" and a missing key agree with every setting. The batch sizes and the precision of `trainer` are resolved.
    """
    extra = vars(trainer)
    betas = [_or(extra.get("adam_beta1"), 0.9), _or(extra.get("adam_beta2"), 0.999)]
    pairs = {
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
    problems = []
    for key, (name, wanted) in pairs.items():
        found = _lookup(values, key)
        if found not in (None, "auto") and found != wanted:
            problems.append(
                f"{key} is {found} in the DeepSpeed JSON, but trainer.{name} is {wanted}: "
                f'make them equal, or write "auto" in the JSON'
            )
    return problems


def complete(values: dict[str, Any], *, on_gpu: bool) -> dict[str, Any]:
    """A copy that is ready to train: the Trainer fills in its batch keys, and Adam on a CPU is torch's.

    DeepSpeed's own CPU Adam is compiled at the first launch; torch's gives the same result.
    """
    result = json.loads(json.dumps(values))
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        result.setdefault(key, "auto")
    result.setdefault("gradient_clipping", "auto")
    if not on_gpu and "adam" in str(result.get("optimizer", {}).get("type", "")).lower():
        result["optimizer"].setdefault("params", {})["torch_adam"] = True
    if stage(result) == 3:  # otherwise a checkpoint has the weights in shards only
        result["zero_optimization"].setdefault("stage3_gather_16bit_weights_on_model_save", True)
    return result


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _lookup(values: dict[str, Any], dotted: str) -> Any:
    node: Any = values
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node
