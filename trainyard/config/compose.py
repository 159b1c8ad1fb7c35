"""From overrides to one typed Config, or to a list of everything that is wrong with the overrides."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainyard.config import local
from trainyard.config.defaults import own_defaults
from trainyard.config.hydra import SEARCH, compose_node, reason
from trainyard.config.mistakes import explain, names_a_group, no_setting, unknown, unreadable
from trainyard.config.overrides import key_of, with_implied
from trainyard.config.schema import Config
from trainyard.errors import ConfigError

_ERRORS = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises for a wrong override: for some choices of groups a bare ValueError."""


def compose(stage: str, overrides: Sequence[str]) -> Config:
    """Composes conf/<stage>.yaml with the settings of this machine (conf/local.yaml) and then with the overrides.

    A model or data of the user's own gets the defaults of conf/*/own_<stage>.yaml; see defaults.own_defaults.

    Raises:
        ConfigError: with every setting of either that does not exist, has a wrong type, or does not parse.
    """
    overrides = with_implied(overrides)
    overrides = [*own_defaults(stage, overrides), *overrides]
    machine = local.read()
    try:
        config = to_config(compose_node(stage, [*machine.overrides(overrides), *overrides]))
    except _ERRORS as error:
        problems, partial = _problems(stage, machine, overrides)
        beside = error.problems if isinstance(error, ConfigError) else [reason(error)]
        raise ConfigError([*machine.problems, *(problems or beside)], partial) from error
    if machine.problems:
        raise ConfigError(machine.problems, config)
    if config.stage != stage:
        raise ConfigError([f"stage={config.stage}: the command decides it; this one is for {stage}"])
    return config


def to_config(node: Any) -> Config:
    """A composed OmegaConf node as plain dataclasses, interpolations resolved.

    Raises:
        ConfigError: with every key that is no setting, as `+` or a file of a foreign folder brings it.
    """
    config = OmegaConf.to_object(node)
    assert isinstance(config, Config)
    if names := list(_foreign(config)):
        raise ConfigError([f"{name}: {no_setting(config.stage, name)}" for name in names])
    return config


def _foreign(section: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names under a dataclass that are no fields: OmegaConf makes attributes of all keys."""
    fields = {field.name for field in dataclasses.fields(section)}
    for name, value in vars(section).items():
        if name not in fields:
            yield prefix + name
        elif dataclasses.is_dataclass(value):
            yield from _foreign(value, f"{prefix}{name}.")
        for number, entry in enumerate(value if isinstance(value, list) else []):
            if dataclasses.is_dataclass(entry):
                yield from _foreign(entry, f"{prefix}{name}.{number}.")


def _problems(stage: str, machine: local.LocalSettings, overrides: Sequence[str]) -> tuple[list[str], Config | None]:
    """A message for each wrong override, headed by the name of its file if it has one; the config of the right ones.

    Hydra stops at its first mistake. So the choices of groups are composed one after the other, and the values are
    then set one by one on the result. The config is None where a wrong override leaves a required value open.
    """
    problems: list[str] = []
    choices: list[str] = []
    searched = [item for item in overrides if key_of(item) == SEARCH]
    for override in [*searched, *(item for item in overrides if names_a_group(key_of(item)))]:
        try:
            compose_node(stage, [*choices, override])
            choices.append(override)
        except _ERRORS as error:
            problems.append(explain(stage, override, error, searched))
    node = compose_node(stage, choices)
    values = [(item, f"{machine.file}: ") for item in machine.overrides(overrides)]
    values += [(item, "") for item in overrides if not names_a_group(key_of(item)) and item not in searched]
    for override, origin in values:
        if message := unknown(stage, override) or unreadable(override):
            problems.append(origin + message)
            continue
        try:
            _set(node, stage, override)
        except _ERRORS as error:
            problems.append(origin + explain(stage, override, error))
    with contextlib.suppress(*_ERRORS):
        return problems, to_config(node)
    return problems, None


def _set(node: Any, stage: str, override: str) -> None:
    """Sets one value on a composed node. What is Hydra's own, or deletes or adds a key, is composed by itself first."""
    parsed = OverridesParser.create().parse_override(override)
    if parsed.is_delete() or parsed.is_add() or parsed.is_sweep_override() or key_of(override).startswith("hydra"):
        compose_node(stage, [override])
    if not parsed.is_delete() and not key_of(override).startswith("hydra"):
        with open_dict(node) if parsed.is_add() or parsed.is_force_add() else contextlib.nullcontext():
            OmegaConf.update(node, parsed.key_or_group, parsed.value())
