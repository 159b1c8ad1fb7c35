"""How the states of a run are divided into the files of a checkpoint, and under which names they lie there."""

from collections.abc import Container
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainyard.config.deepspeed import read, stage
from trainyard.config.schema import Config
from trainyard.files import known, read_json

PARAMETERS = "parameters.json"
"""In a checkpoint of DDP: the parameters' names in the order of the optimizer, which knows them by number alone."""


@dataclass(frozen=True)
class Layout:
    """The settings of a run that decide how its states are divided into files.

    Under ZeRO the same number of ranks with an equal layout loads these files as they are; any other ranks need a
    conversion. Under plain DDP every rank holds everything, so that any number of ranks can load them: all such
    layouts are equal, `Layout()`.
    """

    stage: int = 0
    """The stage of ZeRO; 0 is plain DDP."""
    precision: str = "fp32"
    """bf16, fp16 or fp32, as far as DeepSpeed divides the states by it."""
    zero_optimization: dict[str, Any] = field(default_factory=dict)
    """This and the following are sections of the DeepSpeed JSON; None when it lacks them."""
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    data_types: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> "Layout":
        """The layout that `to_json` has written.

        Raises:
            ValueError: the value is neither an object nor None, or its stage is no number.
        """
        if value is None:
            return cls()
        if not isinstance(value, dict) or not isinstance(value.get("stage"), int):
            raise ValueError("layout is no object with a stage")
        optional = [value.get(name) or {} for name in ("optimizer", "scheduler", "data_types")]
        if not all(isinstance(section, dict) for section in (value.get("zero_optimization", {}), *optional)):
            raise ValueError("a section of layout is no object")
        return cls(**known(cls, value))

    def to_json(self) -> dict[str, Any] | None:
        """As the manifest has it: None for plain DDP."""
        return asdict(self) if self.stage else None

    def obstacles(self) -> list[str]:
        """Every reason why files under this layout can be converted neither to another layout nor from one."""
        found, zero = [], self.zero_optimization
        if any((zero.get(part) or {}).get("device") == "nvme" for part in ("offload_optimizer", "offload_param")):
            found.append("what is offloaded to NVMe is not in the checkpoint's files")
        if zero.get("mics_shard_size", -1) > 0:
            found.append("mics_shard_size divides the states in a way of its own")
        if zero.get("elastic_checkpoint"):
            found.append("elastic_checkpoint divides the states in a way of its own")
        if (self.data_types or {}).get("grad_accum_dtype") not in (None, "auto"):
            found.append("under data_types.grad_accum_dtype DeepSpeed keeps states of another kind")
        optimizer = (self.optimizer or {}).get("type", "AdamW")
        if optimizer.lower() not in ("adam", "adamw"):
            found.append(f"the states of the optimizer {optimizer} cannot be converted")
        return found


def layout_of(config: Config) -> Layout:
    """The layout of the checkpoints that a run with this config writes.

    Raises:
        ValueError: the DeepSpeed JSON cannot be read.
    """
    if config.deepspeed.config is None:
        return Layout()
    values = read(config.deepspeed.config)
    precision = "bf16" if config.trainer.bf16 else "fp16" if config.trainer.fp16 else "fp32"
    optional = (values.get(name) for name in ("optimizer", "scheduler", "data_types"))
    return Layout(stage(values), precision, values["zero_optimization"], *optional)


def ranks_under(count: int | None, stage: int | None) -> str:
    """`2 ranks under ZeRO-2`, `1 rank under DDP`."""
    return f"{count} rank{'s' * (count != 1)} under {f'ZeRO-{stage}' if stage else 'DDP'}"


def saved_as(parameter: str, saved: Container[str]) -> str | None:
    """A parameter's name among the saved ones; None when it is missing. peft leaves out the adapter's name."""
    return next((name for name in (parameter, parameter.replace(".default", "")) if name in saved), None)


def renamed(checkpoint: Path) -> str | None:
    """A parameter that a checkpoint of DDP holds under another name, as transformers saves some mixtures of experts.

    None when there is no such parameter, and for a damaged file, which `verify` reports.
    """
    parameters = read_json(checkpoint / PARAMETERS).get("names", [])
    saved: set[str] = set()
    try:
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                saved.update(tensors.keys())
    except (OSError, SafetensorError):
        return None
    return next((name for name in parameters if saved_as(name, saved) is None), None)
