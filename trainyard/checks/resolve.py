"""Fills in, before the checks, the settings that follow from others and from the machine."""

import re
from collections.abc import Sequence
from pathlib import Path

from trainyard import ROOT
from trainyard.config.overrides import default_name
from trainyard.config.schema import Config, ModelConfig
from trainyard.config.stages import STAGES
from trainyard.machine.devices import Devices


def resolve(config: Config, overrides: Sequence[str], devices: Devices, hosts: dict[str, int]) -> None:
    """Fills in every setting that is derived, in place. `hosts`: slots by host, as the hostfile has them."""
    trainer, launch = config.trainer, config.launch
    config.paths.outputs = str(Path(config.paths.outputs).expanduser().absolute())
    config.run.name = config.run.name or default_name(overrides)
    if not any(re.match(r"\+*(model|experiment)[.=]", item) for item in overrides):
        config.model = default_model(config)
    config.model.init = config.model.init or ("pretrained" if config.model.path else "scratch")
    if launch.num_devices is None:
        launch.num_devices = min(hosts.values(), default=devices.count)
    config.data.chat_template = chat_template(config.data.chat_template)
    if launch.node_rank is None:
        launch.num_nodes = max(1, len(hosts))
    else:
        launch.master_port = launch.master_port or 29500
    if trainer.bf16 is None and trainer.fp16 is None:
        trainer.bf16 = devices.bf16
    ranks = launch.ranks
    if trainer.per_device_train_batch_size is None:
        trainer.per_device_train_batch_size = micro_batch(trainer.global_batch_size, ranks)
    unit = trainer.per_device_train_batch_size * ranks
    if trainer.global_batch_size is None:
        trainer.global_batch_size = unit * (trainer.gradient_accumulation_steps or 1)
    if trainer.gradient_accumulation_steps is None and unit > 0 and trainer.global_batch_size % unit == 0:
        trainer.gradient_accumulation_steps = trainer.global_batch_size // unit


def default_model(config: Config) -> ModelConfig:
    """The model of a command that names no model: the stage's default if it has been trained, else the config's."""
    default = STAGES[config.stage].default_model
    path = Path(config.paths.outputs, default) if default else None
    there = path is not None and (path / "config.json").is_file()
    return ModelConfig(path=str(path), init="pretrained") if there else config.model


def chat_template(name: str | None) -> str | None:
    """The Jinja source behind data.chat_template: a file's, or that of a template of ours by its name.

    Any other text is returned unchanged: a resolved config holds the source itself, and a wrong name is refused later.
    """
    if name is None or "{" in name:
        return name
    shipped = ROOT / "trainyard" / "data" / "conversations" / "templates" / f"{name}.jinja"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    return path.read_text(encoding="utf-8") if path.is_file() else name


def micro_batch(global_batch: int | None, ranks: int, most: int = 8) -> int:
    """The largest micro batch up to `most` that divides a rank's share of the global batch; 1 if the ranks do not."""
    if global_batch is None or ranks < 1 or global_batch < 1 or global_batch % ranks:
        return 1
    return max(size for size in range(1, most + 1) if (global_batch // ranks) % size == 0)
