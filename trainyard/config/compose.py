"""From overrides to one typed Config."""

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainyard.config.hydra import CONF_DIR, initialized, schema
from trainyard.config.overrides import is_open, key_of, with_implied
from trainyard.config.schema import Config
from trainyard.config.secrets import redact
from trainyard.config.training_arguments import MANAGED
from trainyard.errors import ConfigError
from trainyard.files import first_line


def compose(stage: str, overrides: Sequence[str]) -> Config:
    """Composes conf/<stage>.yaml with the overrides.

    Raises:
        ConfigError: with every override that names no setting, has a wrong type, or does not parse.
    """
    overrides = with_implied(overrides)
    try:
        config = to_config(compose_node(stage, overrides))
    except (HydraException, OmegaConfBaseException) as error:
        problems, partial = _find_problems(stage, overrides)
        raise ConfigError(problems or [reason_of(error)], partial) from error
    if config.stage != stage:
        raise ConfigError([f"stage={config.stage}: the command decides it; this one is for {stage}"])
    return config


def to_config(node: Any) -> Config:
    """A composed OmegaConf node as plain dataclasses, interpolations resolved."""
    config = OmegaConf.to_object(node)
    assert isinstance(config, Config)
    return config


def group_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def compose_node(stage: str, overrides: Sequence[str]) -> Any:
    with initialized(stage):
        return hydra_compose(config_name=stage, overrides=list(overrides))


def _find_problems(stage: str, overrides: Sequence[str]) -> tuple[list[str], Config | None]:
    """What is wrong with each override by itself, and the config that the others give.

    Group choices are composed, values are set one by one on the result.
    """
    problems: list[str] = []
    choices: list[str] = []
    for override in (item for item in overrides if (CONF_DIR / key_of(item)).is_dir()):
        try:
            compose_node(stage, [*choices, override])
            choices.append(override)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain(stage, override, error))
    composed = compose_node(stage, choices)
    parser = OverridesParser.create()
    for override in (item for item in overrides if not (CONF_DIR / key_of(item)).is_dir()):
        try:
            parsed = parser.parse_override(override)
            with open_dict(composed) if parsed.is_add() or parsed.is_force_add() else contextlib.nullcontext():
                OmegaConf.update(composed, parsed.key_or_group, parsed.value())
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain(stage, override, error))
    with contextlib.suppress(OmegaConfBaseException):  # a value that a group demands may be among the wrong ones
        return problems, to_config(composed)
    return problems, None


def _explain(stage: str, override: str, error: Exception) -> str:
    key, _, value = override.partition("=")
    leaf = key.rpartition(".")[2]
    override = override if redact({leaf: value})[leaf] == value else f"{key}=***"
    key = key.lstrip("+~")
    if "=" not in override and not override.startswith("~"):
        return f"{override}: overrides have the form key=value"
    if (CONF_DIR / key).is_dir():
        return f"{override}: there is no conf/{key}/{value}.yaml.{_nearest(value, group_options(key))}"
    if key.startswith("trainer.") and key.removeprefix("trainer.") in MANAGED:
        return f"{override}: trainyard sets this itself; {MANAGED[key.removeprefix('trainer.')]}"
    known = [*_dotted(dataclasses.asdict(schema(stage))), *_groups()]
    if key not in known and not is_open(key):
        return f"{override}: there is no setting {key}.{_nearest(key, known, show=3)}"
    reason = reason_of(error)
    wanted = re.search(r"could not be converted to (\w+)", reason)
    if wanted:
        kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{override}: must be {kind.get(wanted[1], wanted[1])}, got {value!r}"
    return f"{override}: {reason}"


def _nearest(name: str, known: Sequence[str], show: int = 50) -> str:
    """` Did you mean X?`, else the first `show` of the known names."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    leaves = {key.rpartition(".")[2]: key for key in known}
    near = near or [
        leaves[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1, cutoff=0.7)
    ]
    if near:
        return f" Did you mean {near[0]}?"
    return f" There are: {', '.join(known)}" if len(known) <= show else " --help lists the settings"


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def _groups() -> list[str]:
    return sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir())


def reason_of(error: Exception) -> str:
    """The innermost reason, without the lines that describe Hydra's own state."""
    cause: BaseException = error
    while cause.__cause__ is not None and str(cause.__cause__) not in ("", "None"):  # the parser's own have no text
        cause = cause.__cause__
    return first_line(cause)
