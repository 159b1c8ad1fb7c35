"""The points of a sweep: every combination of the values given to settings by the command line or by conf/sweep/."""

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


OWN = ("sweep", "run.name", "run.sweep", "launch.devices_per_job")
"""Settings of the sweep itself, by the start of their names: points get none of them."""


COMMON = ("launch.num_devices", "paths")
"""Settings, by the start of their names, by which the sweep divides the machine and finds its points."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its directory, as `learning_rate=1e-4,hidden_size=128`.
        settings: what it has of that which is swept.
        overrides: the whole command line, its name and its sweep aside.
    """

    name: str
    settings: dict[str, str]
    overrides: tuple[str, ...]


class SweepRequest(NamedTuple):
    """A sweep as it was asked for."""

    config: Config
    """What is the same for every point."""
    name: str
    same: list[str]
    swept: dict[str, Axis]


def read(stage: str, arguments: Sequence[str]) -> SweepRequest:
    """What is swept, by the command line and by what sweep=<file> names.

    Raises:
        ConfigError: with everything that is wrong with the command line, or because nothing is swept.
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
    """After its file in conf/sweep/, if it has one, then as a run would be named; `swept` as it was written."""
    chosen = [item.partition("=")[2] for item in given if item.startswith("sweep=")]
    shaping = [item for item in given if not key_of(item).startswith("sweep")]
    return "-".join([*chosen, default_name([*shaping, f"swept={' '.join(sorted(swept))}"])])


class Grid:
    """Every combination, the last setting changing fastest."""

    def __init__(self, request: SweepRequest):
        """
        Raises:
            ConfigError: a setting is swept over an interval, which has no end of values.
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
        self.points = list({each.name: each for each in found}.values())  # a value that is given twice is one
        self._todo = list(self.points)

    def examples(self) -> list[Point]:
        """Points to be checked before the first is started."""
        return self.points

    def begin(self, wanted: Callable[[Point], bool]) -> None:
        """Leaves out what is not wanted."""
        self._todo = [point for point in self.points if wanted(point)]

    def left(self) -> int:
        """Points that are still to come."""
        return len(self._todo)

    def next(self) -> Point | None:
        """Another point to run; None when there is none."""
        return self._todo.pop(0) if self._todo else None

    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None:
        """How a point has ended makes no difference."""

    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool:
        return False


def point(request: SweepRequest, settings: Mapping[str, str]) -> Point:
    swept = {key_of(key) for key in settings}
    same = [item for item in request.same if key_of(item) not in swept]
    overrides = [*same, *(f"{key}={value}" for key, value in settings.items())]
    return Point(_name(settings), {key_of(key): value for key, value in settings.items()}, tuple(overrides))


def _name(settings: Mapping[str, str]) -> str:
    """`learning_rate=1e-4,hidden_size=128`, as short as it tells the settings apart; fit for a file's name."""
    keys = [key_of(key) for key in settings]
    leaves = [key.rpartition(".")[2] for key in keys]
    short = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)]
    full = ",".join(f"{key}={value}" for key, value in zip(short, settings.values(), strict=True))
    name = re.sub(r"[^\w.,=+-]+", "-", full)[:LONGEST_NAME]
    return name if name == full else f"{name}-{xxhash.xxh3_64_hexdigest(full.encode())[:6]}"
