"""trainyard.config.axes."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainyard.config.compose import compose_node, reason_of
from trainyard.config.hydra import initialized
from trainyard.config.overrides import key_of
from trainyard.errors import ConfigError


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
    with initialized(stage):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for override in overrides:
            try:
                parsed = parser.parse_overrides([override])[0]
            except HydraException as error:
                problems.append(f"{override}: {reason_of(error)}")
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
        OmegaConf.update(compose_node(stage, []), key_of(key), 0.5)
    except OmegaConfBaseException:
        return axis._replace(whole=True)
    return axis
