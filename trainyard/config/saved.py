"""A run's config.yaml: written by the controller, read by every rank. Needs neither Hydra nor OmegaConf."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from trainyard.config.schema import Config, SourceConfig, TrainerConfig
from trainyard.config.secrets import redact
from trainyard.files import write_text


def save(config: Config, path: Path) -> None:
    """Writes the whole config as YAML, secrets masked; a reader sees the old file or the new one."""
    values = redact(dataclasses.asdict(config))
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def load(path: Path) -> Config:
    """Reads a config.yaml that `save` wrote. Its values were checked before; they are taken as they are."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    types = {field.name: field.type for field in dataclasses.fields(Config)}
    sections = {name: _section(types[name], value) for name, value in values.items() if isinstance(value, dict)}
    return Config(stage=values["stage"], **sections)


def _section(kind: Any, values: dict[str, Any]) -> Any:
    if kind is TrainerConfig:  # with the TrainingArguments that the command could set, whatever the version
        declared = {field.name for field in dataclasses.fields(TrainerConfig)}
        extra: list[Any] = [(name, Any, None) for name in values if name not in declared]
        kind = dataclasses.make_dataclass("TrainerSettings", extra, bases=(TrainerConfig,), kw_only=True)
    section = kind(**values)
    if hasattr(section, "sources"):
        section.sources = [SourceConfig(**source) for source in values["sources"]]
    return section


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names, as trainer.learning_rate."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
