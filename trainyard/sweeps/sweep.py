"""A sweep from its request to its exit code: every point a run of its own, several at a time, begun or continued."""

import importlib.util
import os
import shlex
import signal
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainyard.checks.resume import is_finished
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.control.say import refuse, say
from trainyard.errors import FAILED, FINISHED, STOPPED, ConfigError
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.sweeps.grid import Grid, Point, SweepRequest
from trainyard.sweeps.pool import Pool, command, slots
from trainyard.sweeps.results import ENDED, Results

POLL_S = 0.2


WRITE_S = 5.0
"""Seconds between two states of results.csv while nothing ends."""


Check = Callable[[Config, Sequence[str]], list[str]]
"""What is wrong with a point, as trainyard.commands.train sees it."""


STATES = {FINISHED: "finished", STOPPED: "preempted", -signal.SIGTERM: "preempted"}
"""By exit code; any other is a failure. A signal that comes before the command has a handler ends it by itself."""


class Source(Protocol):
    """Where the points come from: trainyard.sweeps.grid.Grid or trainyard.sweeps.search.Search."""

    points: list[Point]

    def examples(self) -> list[Point]: ...
    def begin(self, wanted: Callable[[Point], bool]) -> None: ...
    def left(self) -> int: ...
    def next(self) -> Point | None: ...
    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None: ...
    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool: ...


@dataclass
class Sweep:
    """Holds the sweep's directory and keeps its results true."""

    stage: str
    request: SweepRequest
    devices: Devices
    stop: StopSignals

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: a setting of the sweep itself is wrong, or what it needs is missing.
        """
        config = self.request.config
        self.settings = config.sweep
        total, each = config.launch.num_devices or self.devices.count, config.launch.devices_per_job
        if each is not None and not 1 <= each <= total:
            raise ConfigError([f"launch.devices_per_job={each}: must be from 1 to {total}, the devices there are"])
        if self.devices.on_gpu and total > self.devices.count:
            raise ConfigError([f"launch.num_devices={total}: this machine has {self.devices.count} GPUs; lower it"])
        if self.settings.trials < 1:
            raise ConfigError([f"sweep.trials={self.settings.trials}: must be at least 1"])
        outputs = Path(config.paths.outputs).expanduser().absolute()
        self.folder = RunDir(outputs / self.stage / "sweeps" / self.request.name)
        places = slots(self.devices, total, each)
        self.pool = Pool(self.stage, self.request.name, places, self.folder.path / "logs")
        self.results = Results(self.folder.path, self.settings)
        self.source = self._source()
        self._unfinished: set[str] = set()
        """Points that have not finished by what is asked now, which may be more steps than before."""

    def _source(self) -> Source:
        search = self.settings.search
        if search == "grid":
            return Grid(self.request)
        if search != "tpe":
            raise ConfigError([f"sweep.search={search}: must be grid or tpe"])
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(["sweep.search=tpe: needs Optuna; install it with pip install 'trainyard[optuna]'"])
        if "SLURM_ARRAY_TASK_ID" in os.environ:
            raise ConfigError(
                ["sweep.search=tpe: each point follows from others, so no job array can do it; submit one"]
            )
        from trainyard.sweeps.search import Search

        return Search(self.request, [] if self.request.config.run.resume == "never" else self.results.measured())

    def run(self, check: Check) -> int:
        """Every point that has not ended; those that failed before only when they are to be tried again."""
        task, last = os.environ.get("SLURM_ARRAY_TASK_ID"), len(self.source.points) - 1
        if task is not None and int(task) > last:
            return refuse([f"SLURM_ARRAY_TASK_ID={task}: the points are 0 to {last}; submit with --array=0-{last}"])
        mine = self.source.points if task is None else [self.source.points[int(task)]]
        alive = f"sweep.name={self.request.name}: the sweep is alive"
        if task is None and (holder := self.folder.holder()):
            return refuse([f"{alive}, {holder}"])
        if not self._wait_for_those_that_go_on(mine):
            return STOPPED
        if problems := self._problems(self.source.examples() if task is None else mine, check):
            return refuse(problems)
        if task is None and not self.folder.acquire():
            return refuse([f"{alive}, {self.folder.holder()}"])
        self.pool.logs.mkdir(parents=True, exist_ok=True)
        self.source.begin(lambda point: point in mine and self._is_wanted(point))
        todo, at_once, place = self.source.left(), len(self.pool.slots), self.folder.path
        say(f"sweep {self.request.name}: {todo} points to do, {at_once} at a time, in {place}")
        self._follow()
        self.results.write(self.source.points)
        return self._conclude(mine)

    def _wait_for_those_that_go_on(self, points: Sequence[Point]) -> bool:
        """Where the sweep alone was killed, its points have been told to save and leave. False: a stop comes first."""
        said = False
        while alive := [point.name for point in points if RunDir(self.folder.path / point.name).holder()]:
            if self.stop.count:
                return False
            if not said:
                say(f"sweep {self.request.name}: waiting for what still runs, {', '.join(alive)}")
            said = True
            time.sleep(POLL_S)
        return True

    def _problems(self, examples: Sequence[Point], check: Check) -> list[str]:
        """Of all points together, before the first is started; what is wrong with every point is named once."""
        found: dict[str, list[str]] = {}
        for point in examples:
            try:
                overrides = command(self.stage, self.request.name, point, self.pool.slots[0].devices)[3:]
                problems = check(config := compose(self.stage, overrides), overrides)
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
        state = self.results.state(point)
        again = self.request.config.run.resume == "never" or (state == "failed" and self.settings.retry_failed)
        return again or state not in ENDED or (state == "finished" and point.name in self._unfinished)

    def _follow(self) -> None:
        """Until nothing waits or runs; a stop is passed on to what runs, and nothing more is started."""
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
        """Fills the free slots; False when there is nothing to start."""
        started = False
        while not self.pool.is_full and not self.stop.count and (point := self.source.next()):
            self.pool.start(point)
            self.results.known[point.name] = "running"
            started = True
        return started

    def _give_up_what_falls_behind(self) -> None:
        for point, _ in self.pool.running.values():
            known = self.results.known[point.name]
            if known == "running" and self.source.falls_behind(point, self.results.curve(point)):
                self.results.known[point.name] = "pruned"
                self.pool.send(signal.SIGTERM, only=[point.name])

    def _note_end(self, point: Point, code: int) -> None:
        gave_up = self.results.known[point.name] == "pruned" and STATES.get(code) == "preempted"
        if not gave_up:
            self.results.known[point.name] = STATES.get(code, "failed")
        row = self.results.row(point)
        if row["state"] in ENDED:
            self.source.tell(point, row["metric"] if row["state"] == "finished" else None, gave_up=gave_up)
        self.results.write(self.source.points)
        states = [self.results.state(each) for each in self.source.points]
        ended = sum(state in ENDED for state in states)
        value = f", {self.settings.metric} {row['metric']:.4f}" if row["metric"] is not None else ""
        reason = f": {self._last_line(point)}" if row["state"] == "failed" else value
        total = self.settings.trials if self.settings.search == "tpe" else len(states)
        say(f"[{ended}/{total}] {point.name}: {row['state']}{reason}", wrong=row["state"] == "failed")

    def _last_line(self, point: Point) -> str:
        lines = (self.pool.logs / f"{point.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{textwrap.shorten(lines[-1] if lines else 'no message', 300)} (logs/{point.name}.log)"

    def _conclude(self, points: Sequence[Point]) -> int:
        """What came of it, and the exit code: 0 only when every point has finished or was given up."""
        states = {point.name: self.results.state(point) for point in points}
        failed = [name for name, state in states.items() if state == "failed"]
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
