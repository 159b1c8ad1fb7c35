"""From overrides to one typed Config, or to a list of everything that is wrong with the overrides."""

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainyard.config import local
from trainyard.config.hydra import CONF_DIR, compose_node, group_options, groups, reason, schema
from trainyard.config.overrides import is_open, key_of, with_implied
from trainyard.config.schema import Config
from trainyard.config.secrets import masked
from trainyard.config.training_arguments import MANAGED
from trainyard.errors import ConfigError


def compose(stage: str, overrides: Sequence[str]) -> Config:
    """Composes conf/<stage>.yaml with the settings of this machine (conf/local.yaml) and then with the overrides.

    Raises:
        ConfigError: with every setting of either that does not exist, has a wrong type, or does not parse.
    """
    overrides = with_implied(overrides)
    machine = local.read()
    try:
        config = to_config(compose_node(stage, [*machine.overrides(overrides), *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        problems, partial = _problems(stage, machine, overrides)
        raise ConfigError([*machine.problems, *(problems or [reason(error)])], partial) from error
    if machine.problems:
        raise ConfigError(machine.problems, config)
    if config.stage != stage:
        raise ConfigError([f"stage={config.stage}: the command decides it; this one is for {stage}"])
    return config


def to_config(node: Any) -> Config:
    """A composed OmegaConf node as plain dataclasses, interpolations resolved."""
    config = OmegaConf.to_object(node)
    assert isinstance(config, Config)
    return config


def _problems(stage: str, machine: local.LocalSettings, overrides: Sequence[str]) -> tuple[list[str], Config | None]:
    """A message for each wrong override, headed by the name of its file if it has one; the config of the right ones.

    Hydra stops at its first mistake. So the choices of groups are composed one after the other, and the values are
    then set one by one on the result. The config is None where a wrong override leaves a required value open.
    """
    problems: list[str] = []
    choices: list[str] = []
    for override in (item for item in overrides if _is_choice(item)):
        try:
            compose_node(stage, [*choices, override])
            choices.append(override)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain(stage, override, error))
    node = compose_node(stage, choices)
    parser = OverridesParser.create()
    values = [(item, f"{machine.file}: ") for item in machine.overrides(overrides)]
    values += [(item, "") for item in overrides if not _is_choice(item)]
    for override, origin in values:
        try:
            parsed = parser.parse_override(override)
            with open_dict(node) if parsed.is_add() or parsed.is_force_add() else contextlib.nullcontext():
                OmegaConf.update(node, parsed.key_or_group, parsed.value())
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(origin + _explain(stage, override, error))
    with contextlib.suppress(OmegaConfBaseException):
        return problems, to_config(node)
    return problems, None


def _is_choice(override: str) -> bool:
    """Does an override choose a file of a group, as deepspeed=zero3 does?"""
    return (CONF_DIR / key_of(override)).is_dir()


def _explain(stage: str, override: str, error: Exception) -> str:
    """The message for one wrong override: the value, the rule and, where it can be guessed, the name that was meant."""
    override = masked(override)
    key, _, value = override.partition("=")
    key = key.lstrip("+~")
    if "=" not in override and not override.startswith("~"):
        return f"{override}: overrides have the form key=value"
    if (CONF_DIR / key).is_dir():
        return f"{override}: there is no conf/{key}/{value}.yaml.{_nearest(value, group_options(key))}"
    if key.startswith("trainer.") and key.removeprefix("trainer.") in MANAGED:
        return f"{override}: trainyard sets this itself; {MANAGED[key.removeprefix('trainer.')]}"
    known = [*_dotted(dataclasses.asdict(schema(stage))), *groups()]
    if key not in known and not is_open(key):
        return f"{override}: there is no setting {key}.{_nearest(key, known, show=3)}"
    why = reason(error)
    if wanted := re.search(r"could not be converted to (\w+)", why):
        kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{override}: must be {kinds.get(wanted[1], wanted[1])}, got {value!r}"
    return f"{override}: {why}"


def _nearest(name: str, known: Sequence[str], show: int = 50) -> str:
    """` Did you mean X?`; without a similar name the known ones if they are at most `show`, else a hint at --help.

    A name is similar as a whole or by its last part: learning_rate is near to trainer.learning_rate.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        leaves = {key.rpartition(".")[2]: key for key in known}
        leaf = name.rpartition(".")[2]
        near = [leaves[found] for found in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)]
    if near:
        return f" Did you mean {near[0]}?"
    return f" There are: {', '.join(known)}" if len(known) <= show else " --help lists the settings"


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of all settings and sections: run, run.name, run.seed ..."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
