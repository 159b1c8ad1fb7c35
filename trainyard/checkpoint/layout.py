"""trainyard.checkpoint.layout."""

from collections.abc import Container
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainyard.checkpoint.manifest import MANIFEST
from trainyard.config.deepspeed import read, stage
from trainyard.config.schema import Config
from trainyard.files import read_json


def layout(config: Config) -> dict[str, Any] | None:
    """How the states of a run are divided into files, which the same number of ranks under the same layout load as they
    are. None for plain DDP, whose files any rank can load.
    """
    if config.deepspeed.config is None:
        return None
    values = read(config.deepspeed.config)
    precision = "bf16" if config.trainer.bf16 else "fp16" if config.trainer.fp16 else "fp32"
    sections = {name: values.get(name) for name in ("zero_optimization", "optimizer", "scheduler", "data_types")}
    return {"stage": stage(values), "precision": precision, **sections}


def obstacles(divided: dict[str, Any] | None) -> list[str]:
    """Why files under a layout cannot be converted to another, or from it."""
    if divided is None:
        return []
    found, zero = [], divided["zero_optimization"]
    if any((zero.get(part) or {}).get("device") == "nvme" for part in ("offload_optimizer", "offload_param")):
        found.append("what is offloaded to NVMe is not in the checkpoint's files")
    if zero.get("mics_shard_size", -1) > 0:
        found.append("mics_shard_size divides the states in a way of its own")
    if zero.get("elastic_checkpoint"):
        found.append("elastic_checkpoint divides the states in a way of its own")
    if (divided.get("data_types") or {}).get("grad_accum_dtype") not in (None, "auto"):
        found.append("under data_types.grad_accum_dtype DeepSpeed keeps states of another kind")
    optimizer = (divided["optimizer"] or {}).get("type", "AdamW")
    if optimizer.lower() not in ("adam", "adamw"):
        found.append(f"the states of the optimizer {optimizer} cannot be converted")
    return found


PARAMETERS = "parameters.json"
"""In a checkpoint of DDP: the parameters' names in the order of the optimizer, which knows them by number alone."""


def fits(checkpoint: Path, layout: dict[str, Any] | None, world_size: int) -> bool:
    """Can ranks of this number, under this layout (see zero.layout), load a checkpoint as it is?"""
    manifest = read_json(checkpoint / MANIFEST)
    if manifest.get("layout", {}) != layout:
        return False
    return layout is None or manifest["world_size"] == world_size


def saved_as(parameter: str, saved: Container[str]) -> str | None:
    """A parameter's name among those saved, which peft shortens by its adapter's; None where it is not among them."""
    return next((name for name in (parameter, parameter.replace(".default", "")) if name in saved), None)


def renamed(checkpoint: Path) -> str | None:
    """A parameter that a checkpoint of DDP has under another name, as transformers saves some mixtures of experts."""
    parameters = read_json(checkpoint / PARAMETERS).get("names", [])
    saved: set[str] = set()
    try:
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                saved.update(tensors.keys())
    except (OSError, SafetensorError):  # it is damaged, and will be passed over for that
        return None
    return next((name for name in parameters if saved_as(name, saved) is None), None)
