"""From overrides to one typed Config."""

import contextlib
import dataclasses
import difflib
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainyard import ROOT
from trainyard.arguments import MANAGED, trainer_schema
from trainyard.runconfig import OPEN, is_open, redact
from trainyard.schema import Config

CONF_DIR = ROOT / "conf"


class ConfigError(ValueError):
    """What is wrong with a request, every mistake in `problems`, each with the value, the rule and the fix."""

    def __init__(self, problems: Sequence[str], partial: Config | None = None):
        """`partial` is the config without the overrides that are wrong, for more to be checked."""
        super().__init__("\n".join(problems))
        self.problems, self.partial = list(problems), partial


def schema(stage: str) -> Config:
    return Config(stage=stage, trainer=trainer_schema()())


def register(stage: str) -> None:
    """Makes the schema known to Hydra as <stage>_schema, and the resolvers that conf/ uses."""
    ConfigStore.instance().store(name=f"{stage}_schema", node=schema(stage))
    OmegaConf.register_new_resolver("stdlib", lambda: sysconfig.get_paths()["stdlib"], replace=True)


def compose(stage: str, overrides: Sequence[str]) -> Config:
    """Composes conf/<stage>.yaml with the overrides.

    Raises:
        ConfigError: with every override that names no setting, has a wrong type, or does not parse.
    """
    overrides = with_implied(overrides)
    try:
        config = to_config(_compose(stage, overrides))
    except (HydraException, OmegaConfBaseException) as error:
        problems, partial = _find_problems(stage, overrides)
        raise ConfigError(problems or [_first_line(error)], partial) from error
    if config.stage != stage:
        raise ConfigError([f"stage={config.stage}: the command decides it; this one is for {stage}"])
    return config


class Interval(NamedTuple):
    """A continuous sweep; `whole`: over whole numbers, `log`: evenly over their logarithm."""

    low: float
    high: float
    whole: bool
    log: bool


Axis = list[str] | Interval
"""The values of a setting that is swept, each as an override has it."""


def axes(stage: str, overrides: Sequence[str]) -> tuple[list[str], dict[str, Axis]]:
    """Divides overrides into those that hold for every point of a sweep and what is swept, by setting.

    Raises:
        ConfigError: with every override that does not parse.
    """
    same: list[str] = []
    swept: dict[str, Axis] = {}
    problems: list[str] = []
    with _hydra(stage):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for override in overrides:
            try:
                parsed = parser.parse_overrides([override])[0]
            except HydraException as error:
                problems.append(f"{override}: {_first_line(error)}")
                continue
            if not parsed.is_sweep_override():
                same.append(override)
            else:
                swept[parsed.get_key_element()] = _axis(parsed)
    if problems:
        raise ConfigError(problems)
    return same, {key: _in_whole_numbers(stage, key, axis) for key, axis in swept.items()}


def _axis(parsed: Override) -> Axis:
    value = parsed.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        return Interval(value.start, value.end, isinstance(value.start, int), "log" in value.tags)
    values = list(parsed.sweep_string_iterator())
    if getattr(value, "shuffle", False):  # in one order for all that read this, for each task of a job array does
        values.sort()
        random.Random(parsed.input_line).shuffle(values)
    return values


def _in_whole_numbers(stage: str, key: str, axis: Axis) -> Axis:
    """An interval of whole numbers where its setting takes no others; to Hydra its bounds are none, however written."""
    if not isinstance(axis, Interval) or axis.whole:
        return axis
    try:
        OmegaConf.update(_compose(stage, []), key_of(key), 0.5)
    except OmegaConfBaseException:
        return axis._replace(whole=True)
    return axis


def with_implied(overrides: Sequence[str]) -> list[str]:
    """What users mean, in Hydra's grammar.

    `model.path=X` alone means that model, not the default group's architecture with X's weights. Epochs alone mean
    epochs, whatever steps a group has. Any key may be set under those of OPEN, where Hydra asks for ++ before a key
    that the file does not have. What has been through here once is left as it is.
    """
    result = ["++" + item if re.match(rf"({'|'.join(map(re.escape, OPEN))})[.=]", item) else item for item in overrides]
    keys = {key_of(override) for override in overrides}
    if "model.path" in keys and not keys & {"model", "experiment"}:
        result.insert(0, "model=from_path")
    if "trainer.num_train_epochs" in keys and "trainer.max_steps" not in keys:
        result.append("trainer.max_steps=-1")
    return result


def to_config(node: Any) -> Config:
    """A composed OmegaConf node as plain dataclasses, interpolations resolved."""
    config = OmegaConf.to_object(node)
    assert isinstance(config, Config)
    return config


def group_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def key_of(override: str) -> str:
    """The setting that an override is about."""
    return override.split("=", 1)[0].lstrip("+~")


@contextlib.contextmanager
def _hydra(stage: str) -> Iterator[None]:
    register(stage)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name=stage):
        yield


def _compose(stage: str, overrides: Sequence[str]) -> Any:
    with _hydra(stage):
        return hydra_compose(config_name=stage, overrides=list(overrides))


def _find_problems(stage: str, overrides: Sequence[str]) -> tuple[list[str], Config | None]:
    """What is wrong with each override by itself, and the config that the others give.

    Group choices are composed, values are set one by one on the result.
    """
    problems: list[str] = []
    choices: list[str] = []
    for override in (item for item in overrides if (CONF_DIR / key_of(item)).is_dir()):
        try:
            _compose(stage, [*choices, override])
            choices.append(override)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain(stage, override, error))
    composed = _compose(stage, choices)
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
    reason = _first_line(error)
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


def _first_line(error: Exception) -> str:
    """The innermost reason, without the lines that describe Hydra's own state."""
    cause: BaseException = error
    while cause.__cause__ is not None and str(cause.__cause__) not in ("", "None"):  # the parser's own have no text
        cause = cause.__cause__
    return str(cause).strip().splitlines()[0]
