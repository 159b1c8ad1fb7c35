"""A run's config.yaml: written by the controller, read by every rank. Needs neither Hydra nor OmegaConf."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trainyard.config.schema import Config, SourceConfig, TrainerConfig
from trainyard.config.secrets import redact
from trainyard.errors import ConfigError
from trainyard.files import first_line, write_text

SECTIONS: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Config) if field.name != "stage"}
"""The sections of a config, each with its dataclass."""


def save(config: Config, path: Path) -> None:
    """Writes the whole config as YAML, secrets masked. The file is replaced in one step."""
    write_text(path, yaml.safe_dump(redact(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True))


def load(path: Path) -> Config:
    """Reads a config.yaml that `save` wrote, this version's or an earlier one's. Settings added since are at default.

    The values were checked before the run began, so they are taken as they are.

    Raises:
        ConfigError: the file is missing, cut off or no config, or has settings that this version does not know.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}. {WAY_ON}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not valid YAML: {first_line(error)}. {WAY_ON}"]) from error
    if not isinstance(values, dict) or not isinstance(values.get("stage"), str):
        raise ConfigError([f"{path}: not the config of a run, which names its stage. {WAY_ON}"])
    if unknown := list(_unknown(values)):
        raise ConfigError([f"{path}: this version has no setting {', '.join(unknown)}. {WAY_ON}"])
    missing = [name for name in _ALWAYS if name not in values]
    if missing or not text.endswith("\n"):
        lacks = f", without {' and '.join(missing)}" if missing else ""
        raise ConfigError([f"{path}: it is cut off{lacks}. {WAY_ON}"])
    try:
        sections = {name: _section(SECTIONS[name], value) for name, value in values.items() if name != "stage"}
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError([f"{path}: not the config of a run: {first_line(error)}. {WAY_ON}"]) from error
    return Config(stage=values["stage"], **sections)


_ALWAYS = ("paths", "run", "model", "tokenizer", "data", "trainer", "deepspeed", "tracking", "launch")
"""Sections that a config of every version has."""


WAY_ON = (
    "Use the version of trainyard that wrote it, put back a copy of the file, take another run.name, or start over "
    "with run.resume=never"
)


def _unknown(values: dict[str, Any]) -> Iterator[str]:
    """The dotted names of settings that no dataclass of the schema has. Any name may stand under trainer."""
    for name, section in values.items():
        if name != "stage" and not (name in SECTIONS and isinstance(section, dict)):
            yield name
        elif name not in ("stage", "trainer"):
            yield from (f"{name}.{key}" for key in section if key not in _names(SECTIONS[name]))
    data = values.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    for number, source in enumerate(sources if isinstance(sources, list) else []):
        yield from (f"data.sources[{number}].{key}" for key in source if key not in _names(SourceConfig))


def _section(kind: Any, values: dict[str, Any]) -> Any:
    if kind is TrainerConfig:  # TrainingArguments differ between versions of transformers: take those that were set
        extra: list[Any] = [(name, Any, None) for name in values if name not in _names(TrainerConfig)]
        kind = dataclasses.make_dataclass("TrainerSettings", extra, bases=(TrainerConfig,), kw_only=True)
    section = kind(**values)
    if hasattr(section, "sources"):
        section.sources = [SourceConfig(**source) for source in values["sources"]]
    return section


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: `{"run": {"seed": 1}}` becomes `{"run.seed": 1}`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result
