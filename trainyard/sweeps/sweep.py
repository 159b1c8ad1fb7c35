"""A sweep from its request to its exit code: every point is a run of its own, several at a time, begun or continued."""

import importlib.util
import os
import shlex
import signal
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainyard.checks.filled_in import FilledIn, lines
from trainyard.checks.resume import is_finished
from trainyard.config import local
from trainyard.config.compose import compose
from trainyard.config.stages import STAGES
from trainyard.control.controller import check
from trainyard.control.say import refuse, say
from trainyard.errors import FAILED, FINISHED, STOPPED, ConfigError
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.sweeps import pool
from trainyard.sweeps.grid import Grid, Point, SweepRequest
from trainyard.sweeps.pool import Pool, Slot
from trainyard.sweeps.results import ENDED, PointState, Results

POLL_S = 0.2
"""Seconds between two looks at the running points."""

WRITE_S = 5.0
"""Seconds after which results.csv is written again while no point ends."""

TASK = "SLURM_ARRAY_TASK_ID"
"""The environment variable with the number of a point: a task of a job array runs that point alone."""

STATES = {FINISHED: PointState.FINISHED, STOPPED: PointState.PREEMPTED, -signal.SIGTERM: PointState.PREEMPTED}
"""States by exit code; any other code is a failure. SIGTERM ends a command that has no handler for it yet."""


class Source(Protocol):
    """The points of a sweep, handed out one by one: trainyard.sweeps.grid.Grid or trainyard.sweeps.search.Search."""

    points: list[Point]

    def examples(self) -> list[Point]: ...
    def begin(self, wanted: Callable[[Point], bool]) -> None: ...
    def left(self) -> int: ...
    def next(self) -> Point | None: ...
    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None: ...
    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool: ...


@dataclass
class Sweep:
    """A sweep of this command. It holds the lock of the sweep's directory and keeps the results there true."""

    stage: str
    request: SweepRequest
    devices: Devices
    stop: StopSignals

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: with every wrong setting of the sweep itself, and with a missing library.
        """
        if problems := list(self._own_problems()):
            raise ConfigError(problems)
        config = self.request.config
        self.settings = config.sweep
        outputs = Path(config.paths.outputs).expanduser().absolute()
        self.folder = RunDir(outputs / self.stage / "sweeps" / self.request.name)
        self.pool = Pool(self.stage, self.request.name, self._slots(), self.folder.path / "logs")
        self.results = Results(self.folder.path, self.settings)
        self.source = self._source()
        self._filled_in: list[FilledIn] | None = None
        """The values that nobody gave and that all points have; None before the first point is checked."""
        self._unfinished: set[str] = set()
        """Names of points that are not finished under the settings of this command, which may ask for more steps."""

    @property
    def _total(self) -> int:
        """Devices that the points share."""
        return self.request.config.launch.num_devices or self.devices.count

    def _slots(self) -> list[Slot]:
        return pool.slots(self.devices, self._total, self.request.config.launch.devices_per_job)

    def _own_problems(self) -> Iterator[str]:
        settings, total, each = self.request.config.sweep, self._total, self.request.config.launch.devices_per_job
        if each is not None and not 1 <= each <= total:
            yield f"launch.devices_per_job={each}: must be from 1 to {total}, the devices there are"
        elif (hosts := self.request.config.launch.hostfile) and len(self._slots()) > 1:
            origin = local.origin(local.HOSTFILE, self.request.same)
            yield f"launch.hostfile={hosts}{origin}: points side by side share one machine; add launch.hostfile=null"
        if self.devices.on_gpu and total > self.devices.count:
            yield f"launch.num_devices={total}: this machine has {self.devices.count} GPUs; lower it"
        if settings.trials < 1:
            yield f"sweep.trials={settings.trials}: must be at least 1"
        if settings.search not in ("grid", "tpe"):
            yield f"sweep.search={settings.search}: must be grid or tpe"
        if settings.search == "tpe" and importlib.util.find_spec("optuna") is None:
            yield "sweep.search=tpe: needs Optuna; install it with pip install 'trainyard[optuna]'"
        if settings.search == "tpe" and TASK in os.environ:
            yield "sweep.search=tpe: each point depends on earlier results, so no job array can run it; submit one job"

    def _source(self) -> Source:
        if self.settings.search == "grid":
            return Grid(self.request)
        from trainyard.sweeps.search import Search

        return Search(self.request, [] if self.request.config.run.resume == "never" else self.results.measured())

    def run(self) -> int:
        """Runs every point that has not ended, and returns the exit code.

        Points that failed under an earlier command are run again with sweep.retry_failed=true.
        """
        try:
            mine = self._mine()
            if not self._wait_for_those_that_go_on(mine):
                return STOPPED
            self._begin(mine)
        except ConfigError as error:
            return refuse(error.problems)
        self._follow()
        self.results.write(self.source.points)
        return self._conclude(mine)

    def _mine(self) -> list[Point]:
        """The points of this command: all, or in a task of a job array the point of that task.

        Raises:
            ConfigError: the task has no point, or another command runs the sweep.
        """
        task, last = os.environ.get(TASK), len(self.source.points) - 1
        if task is None:
            if holder := self.folder.holder():
                raise self._alive(holder)
            return self.source.points
        if int(task) > last:
            raise ConfigError([f"{TASK}={task}: the points are 0 to {last}; submit with --array=0-{last}"])
        return [self.source.points[int(task)]]

    def _alive(self, holder: str | None) -> ConfigError:
        return ConfigError([f"sweep.name={self.request.name}: the sweep is alive, {holder}"])

    def _wait_for_those_that_go_on(self, points: Sequence[Point]) -> bool:
        """Waits for points of a killed sweep that are still saving, and then leave. False: a stop came first."""
        said = False
        while alive := [point.name for point in points if RunDir(self.folder.path / point.name).holder()]:
            if self.stop.count:
                return False
            if not said:
                say(f"sweep {self.request.name}: waiting for what still runs, {', '.join(alive)}")
            said = True
            time.sleep(POLL_S)
        return True

    def _begin(self, mine: list[Point]) -> None:
        """Checks the points and takes the sweep's directory. The tasks of a job array share it without a lock.

        Raises:
            ConfigError: with every mistake of the points, or because another command was faster.
        """
        is_task = TASK in os.environ
        if problems := self._problems(mine if is_task else self.source.examples()):
            raise ConfigError(problems)
        if not is_task and not self.folder.acquire():
            raise self._alive(self.folder.holder())
        self.pool.logs.mkdir(parents=True, exist_ok=True)
        self.source.begin(lambda point: point in mine and self._is_wanted(point))
        todo, at_once, place = self.source.left(), len(self.pool.slots), self.folder.path
        say(f"sweep {self.request.name}: {todo} points to do, {at_once} at a time, in {place}")
        for line in lines(self._filled_in or []) if todo else []:
            say(line)

    def _problems(self, examples: Sequence[Point]) -> list[str]:
        """The mistakes of all points, before the first is started. A mistake that every point has is named once."""
        found: dict[str, list[str]] = {}
        for point in examples:
            try:
                overrides = pool.overrides(self.request.name, point, self.pool.slots[0].devices)
                config = compose(self.stage, overrides)
                checked = check(config, overrides, self.devices)
                problems = checked.problems
                self._filled_in = [
                    each for each in checked.filled_in if self._filled_in is None or each in self._filled_in
                ]
                if not problems and not is_finished(config, RunDir(self.folder.path / point.name)):
                    self._unfinished.add(point.name)
            except ConfigError as error:
                problems = error.problems
            for problem in problems:
                found.setdefault(problem, []).append(point.name)
        return [
            problem if len(names) == len(examples) else f"{problem} (in {len(names)} points, as {names[0]})"
            for problem, names in found.items()
        ]

    def _is_wanted(self, point: Point) -> bool:
        """Does this command start the point, given its state so far?"""
        state = self.results.state(point)
        again = self.request.config.run.resume == "never" or (state == PointState.FAILED and self.settings.retry_failed)
        return again or state not in ENDED or (state == PointState.FINISHED and point.name in self._unfinished)

    def _follow(self) -> None:
        """Runs until no point waits or runs. A stop is passed on to the running points, and no other is started."""
        stops, written = 0, 0.0
        while self._start() or self.pool.running:
            for point, code in self.pool.ended():
                self._note_end(point, code)
            while stops < self.stop.count:
                stops += 1
                self.pool.send(signal.SIGTERM)
            if time.monotonic() - written > WRITE_S:
                self._give_up_what_falls_behind()
                self.results.write(self.source.points)
                written = time.monotonic()
            time.sleep(POLL_S)

    def _start(self) -> bool:
        """Fills the free slots with points. False when none was started."""
        started = False
        while not self.pool.is_full and not self.stop.count and (point := self.source.next()):
            self.pool.start(point)
            self.results.known[point.name] = PointState.RUNNING
            started = True
        return started

    def _give_up_what_falls_behind(self) -> None:
        """Stops the points that the search gives up."""
        for point, _ in self.pool.running.values():
            known = self.results.known[point.name]
            if known == PointState.RUNNING and self.source.falls_behind(point, self.results.curve(point)):
                self.results.known[point.name] = PointState.PRUNED
                self.pool.send(signal.SIGTERM, only=[point.name])

    def _note_end(self, point: Point, code: int) -> None:
        """Writes down how a point ended, tells the search, and prints a line about it."""
        gave_up = self.results.known[point.name] == PointState.PRUNED and STATES.get(code) == PointState.PREEMPTED
        if not gave_up:
            self.results.known[point.name] = STATES.get(code, PointState.FAILED)
        row = self.results.row(point)
        if row.state in ENDED:
            self.source.tell(point, row.metric if row.state == PointState.FINISHED else None, gave_up=gave_up)
        self.results.write(self.source.points)
        states = [self.results.state(each) for each in self.source.points]
        ended = sum(state in ENDED for state in states)
        value = f", {self.settings.metric} {row.metric:.4f}" if row.metric is not None else ""
        reason = f": {self._last_line(point)}" if row.state == PointState.FAILED else value
        total = self.settings.trials if self.settings.search == "tpe" else len(states)
        say(f"[{ended}/{total}] {point.name}: {row.state}{reason}", wrong=row.state == PointState.FAILED)

    def _last_line(self, point: Point) -> str:
        lines = (self.pool.logs / f"{point.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{textwrap.shorten(lines[-1] if lines else 'no message', 300)} (logs/{point.name}.log)"

    def _conclude(self, points: Sequence[Point]) -> int:
        """Prints the best point and the failed ones. The exit code is 0 only if each has finished or was given up."""
        states = {point.name: self.results.state(point) for point in points}
        failed = [name for name, state in states.items() if state == PointState.FAILED]
        if best := self.results.best(self.source.points):
            point, value = best
            say(f"best so far: {point.name}, {self.settings.metric} {value:.4f}")
            say(f"  {shlex.join([*STAGES[self.stage].words, *point.overrides])}")
        say(f"results: {self.folder.path / 'results.csv'}")
        if self.source.left() or not all(state in ENDED for state in states.values()):
            say(f"{self.stop.name or 'stopped'}: the same command goes on with the sweep")
            return STOPPED
        if failed:
            again = "sweep.retry_failed=true tries them again"
            say(f"error: {len(failed)} of {len(states)} points failed: {'; '.join(failed)}; {again}", wrong=True)
            return FAILED
        return FINISHED
