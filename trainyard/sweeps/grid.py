"""A sweep's request, read from the command line and conf/sweep/, and its points: every combination of the values."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from trainyard.config.axes import Axis, Interval, axes
from trainyard.config.compose import compose
from trainyard.config.overrides import default_name, key_of
from trainyard.config.schema import Config
from trainyard.errors import ConfigError
from trainyard.rundir.directory import unfit

LONGEST_NAME = 120
"""Characters of a point's name before it is cut and a digest follows."""

OWN = ("sweep", "run.name", "run.sweep", "launch.devices_per_job")
"""Starts of the names of settings that belong to the sweep itself and are not passed to its points."""

COMMON = ("launch.num_devices", "paths")
"""Starts of the names of settings that are the same for all points, because the sweep divides the machine by them."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Names its directory, as `learning_rate=1e-4,hidden_size=128`."""
    settings: dict[str, str]
    """Its value of each swept setting, as an override spells it."""
    overrides: tuple[str, ...]
    """Its whole command line, without the names of the run and of the sweep."""


class SweepRequest(NamedTuple):
    """A sweep as the command asks for it."""

    config: Config
    """The config of the overrides that all points share, with the settings of the sweep itself."""
    name: str
    """Names the sweep's directory."""
    same: list[str]
    """Overrides for every point."""
    swept: dict[str, Axis]
    """The axes, by setting."""


def read(stage: str, arguments: Sequence[str]) -> SweepRequest:
    """Reads what is swept: by the command line, and by the file of conf/sweep/ that `sweep=<name>` chooses.

    The command line wins where both decide a setting.

    Raises:
        ConfigError: with every mistake of the command line, or because nothing is swept.
    """
    given, swept = axes(stage, arguments)
    config = compose(stage, given)
    params = [f"{key}={values}" for key, values in config.sweep.params.items()]
    more, beside = axes(stage, params)
    decided = {key_of(item) for item in given}
    swept = {**{key: axis for key, axis in beside.items() if key_of(key) not in decided}, **swept}
    if not swept:
        example = "trainer.learning_rate=1e-4,3e-4"
        raise ConfigError([f"-m: nothing is swept; give a setting several values, as {example}, or choose sweep="])
    same = [item for item in more if key_of(item) not in decided]
    same += [item for item in given if not key_of(item).startswith(OWN)]
    problems = [
        f"{key}: belongs to the sweep, and has one value for all of its points"
        for key in swept
        if key_of(key).startswith((*OWN, *COMMON))
    ]
    keys = {key_of(key) for key in swept}
    texts = [item for item in [*params, *arguments] if key_of(item) in keys and item not in given]
    name = config.sweep.name or config.run.name or _sweep_name(given, texts)
    if reason := unfit(name):
        problems.append(f"sweep.name={name}: {reason}")
    if problems:
        raise ConfigError(problems)
    return SweepRequest(config, name, same, swept)


def _sweep_name(given: Sequence[str], swept: Sequence[str]) -> str:
    """`<file in conf/sweep/>-<name of a run with these overrides>`; `swept` are the axes as they were written."""
    chosen = [item.partition("=")[2] for item in given if item.startswith("sweep=")]
    shaping = [item for item in given if not key_of(item).startswith("sweep")]
    return "-".join([*chosen, default_name([*shaping, f"swept={' '.join(sorted(swept))}"])])


class Grid:
    """Every combination of the values; the last setting changes fastest."""

    def __init__(self, request: SweepRequest):
        """
        Raises:
            ConfigError: a setting is swept over an interval, which has infinitely many values.
        """
        endless = [key for key, axis in request.swept.items() if isinstance(axis, Interval)]
        if endless:
            fix = "list values, or let sweep.search=tpe choose them"
            raise ConfigError([f"{key}: an interval has no end of points; {fix}" for key in endless])
        values = [axis for axis in request.swept.values() if not isinstance(axis, Interval)]
        found = (
            point(request, dict(zip(request.swept, combination, strict=True)))
            for combination in itertools.product(*values)
        )
        self.points = list({each.name: each for each in found}.values())  # a value given twice makes one point
        self._todo = list(self.points)

    def examples(self) -> list[Point]:
        """All points: each is checked before the first one is started."""
        return self.points

    def begin(self, wanted: Callable[[Point], bool]) -> None:
        """Keeps only the points that are wanted."""
        self._todo = [point for point in self.points if wanted(point)]

    def left(self) -> int:
        """Number of points that are still to be started."""
        return len(self._todo)

    def next(self) -> Point | None:
        """The next point to start; None after the last."""
        return self._todo.pop(0) if self._todo else None

    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None:
        """Takes the end of a point. It makes no difference to a grid."""

    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool:
        """A grid gives up no point."""
        return False


def point(request: SweepRequest, settings: Mapping[str, str]) -> Point:
    """The point with these values of the swept settings. A key may have Hydra's `++` before it."""
    swept = {key_of(key) for key in settings}
    same = [item for item in request.same if key_of(item) not in swept]
    overrides = [*same, *(f"{key}={value}" for key, value in settings.items())]
    return Point(_name(settings), {key_of(key): value for key, value in settings.items()}, tuple(overrides))


def _name(settings: Mapping[str, str]) -> str:
    """`learning_rate=1e-4,hidden_size=128`: the last part of each key, or the whole key where two end alike.

    Characters that file names should not have become `-`. A digest follows where the name was changed or cut.
    """
    keys = [key_of(key) for key in settings]
    leaves = [key.rpartition(".")[2] for key in keys]
    short = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)]
    full = ",".join(f"{key}={value}" for key, value in zip(short, settings.values(), strict=True))
    name = re.sub(r"[^\w.,=+-]+", "-", full)[:LONGEST_NAME]
    return name if name == full else f"{name}-{xxhash.xxh3_64_hexdigest(full.encode())[:6]}"
