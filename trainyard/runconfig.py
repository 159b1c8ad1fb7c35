"""A run's config.yaml: written by the controller, read by every rank. Needs neither Hydra nor OmegaConf."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trainyard.schema import Config, SourceConfig, TrainerConfig

OPEN = ("model.config", "data.template_variables")
"""Settings that take any key."""

_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password)$", re.IGNORECASE)


def save(config: Config, path: Path) -> None:
    """Writes the whole config as YAML, secrets masked; a reader sees the old file or the new one."""
    values = redact(dataclasses.asdict(config))
    staging = path.with_name(f".{path.name}")
    staging.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    staging.replace(path)


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


def is_open(name: str) -> bool:
    """Does a setting lie under one that takes any key?"""
    return name.startswith(tuple(f"{each}." for each in OPEN))


def command(stage: str, overrides: Sequence[str]) -> str:
    """The command line of a run, to be pasted into a shell; secrets are masked."""
    return shlex.join(["bash", f"launch/{stage}.sh", *map(masked, overrides)])


def masked(override: str) -> str:
    """An override whose value is `***` if its key names a secret, or any key inside its value does."""
    key, _, value = override.partition("=")
    names = [key.lstrip("+~").rpartition(".")[2], *re.findall(r"(\w+)['\"]?\s*[:=]", value)]
    return f"{key}=***" if value and any(map(_SECRET.search, names)) else override


def redact(value: Any) -> Any:
    """A copy in which every non-empty string under a key such as api_key, hub_token or password is `***`."""
    if isinstance(value, dict):
        return {
            key: "***" if item and isinstance(item, str) and _SECRET.search(str(key)) else redact(item)
            for key, item in value.items()
        }
    return [redact(item) for item in value] if isinstance(value, list) else value
