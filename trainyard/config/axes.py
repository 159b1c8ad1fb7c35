"""Which settings a sweep varies, and over which values: read from overrides in Hydra's grammar."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainyard.config.hydra import compose_node, composing, reason
from trainyard.config.mistakes import unreadable
from trainyard.config.overrides import key_of
from trainyard.errors import ConfigError


class Interval(NamedTuple):
    """A range that is swept continuously, `interval(low, high)`, both ends included."""

    low: float
    high: float
    whole: bool
    """Only whole numbers are taken."""
    log: bool
    """Values are spread evenly over their logarithm."""


Axis = list[str] | Interval
"""The values of one swept setting: an interval, or a list of values as an override spells them."""


def axes(stage: str, overrides: Sequence[str]) -> tuple[list[str], dict[str, Axis]]:
    """Divides overrides into those that hold for every point of a sweep and the axes, by setting.

    `[run.seed=1, trainer.learning_rate=1e-4,3e-4]` gives `[run.seed=1]` and `{trainer.learning_rate: [1e-4, 3e-4]}`.

    Raises:
        ConfigError: with every override that does not parse.
    """
    same: list[str] = []
    swept: dict[str, Axis] = {}
    problems: list[str] = []
    with composing(stage):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for override in overrides:
            try:
                parsed = parser.parse_overrides([override])[0]
            except HydraException as error:
                problems.append(unreadable(override, several=True) or f"{override}: {reason(error)}")
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
    if getattr(value, "shuffle", False):  # seeded by the text: every task of a job array shuffles to the same order
        values.sort()
        random.Random(parsed.input_line).shuffle(values)
    return values


def _in_whole_numbers(stage: str, key: str, axis: Axis) -> Axis:
    """Makes an interval whole if its setting is an integer. Hydra parses the bounds as floats, however written."""
    if not isinstance(axis, Interval) or axis.whole:
        return axis
    try:
        OmegaConf.update(compose_node(stage, []), key_of(key), 0.5)
    except OmegaConfBaseException:
        return axis._replace(whole=True)
    return axis
