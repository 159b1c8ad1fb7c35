"""A sweep from its request to its exit code: every point a run of its own, several at a time, begun or continued."""

import os
import shlex
import signal
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.config import ConfigError, compose
from trainyard.devices import Devices
from trainyard.rundir import RunDir, read_json
from trainyard.schema import Config
from trainyard.signals import StopSignals
from trainyard.supervisor import FAILED, FINISHED, STOPPED, refuse, say
from trainyard.sweeps import grid, results
from trainyard.sweeps.grid import Point
from trainyard.sweeps.pool import Pool, command, slots

POLL_S = 0.2
WRITE_S = 5.0
"""Seconds between two states of results.csv while nothing ends."""

Check = Callable[[Config, Sequence[str]], list[str]]
"""What is wrong with a point, as trainyard.controller sees it."""

STATES = {FINISHED: "finished", STOPPED: "preempted"}
"""By exit code; any other is a failure."""


@dataclass
class Sweep:
    """Holds the sweep's directory and keeps its results true."""

    stage: str
    request: grid.Request
    devices: Devices
    stop: StopSignals
    codes: dict[str, int] = field(default_factory=dict)
    """Exit codes of the points that this command has started, by name."""

    def __post_init__(self) -> None:
        config = self.request.config
        self.settings = config.sweep
        outputs = Path(config.paths.outputs).expanduser().absolute()
        self.folder = RunDir(outputs / self.stage / "sweeps" / self.request.name)
        self.points = list(grid.points(self.request))
        each = slots(self.devices, config.launch.num_devices or self.devices.count, config.launch.devices_per_job)
        self.pool = Pool(self.stage, self.request.name, each, self.folder.path / "logs")
        self.failed_before = {
            row["point"]
            for row in read_json(self.folder.path / "results.json").get("points", [])
            if row["state"] == "failed"
        }

    def run(self, check: Check) -> int:
        """Every point that has not finished; those that failed before only when they are to be tried again."""
        task, last = os.environ.get("SLURM_ARRAY_TASK_ID"), len(self.points) - 1
        problems = self._problems(check)
        if task is not None and int(task) > last:
            problems.append(f"SLURM_ARRAY_TASK_ID={task}: the points are 0 to {last}; submit with --array=0-{last}")
        if problems:
            return refuse(problems)
        if task is None and not self.folder.acquire():
            return refuse([f"sweep.name={self.request.name}: the sweep is alive, {self.folder.holder()}"])
        self.pool.logs.mkdir(parents=True, exist_ok=True)
        points = self.points if task is None else [self.points[int(task)]]
        waiting = [point for point in points if self._is_wanted(point)]
        total, at_once = len(points), min(len(waiting), len(self.pool.slots))
        say(f"sweep {self.request.name}: {total} points, {len(waiting)} to do, {at_once} at a time")
        self._follow(waiting)
        self._write()
        return self._conclude(points)

    def _problems(self, check: Check) -> list[str]:
        """Of all points together, before the first is started; what is wrong with every point is named once."""
        found: dict[str, list[str]] = {}
        for point in self.points:
            try:
                overrides = command(self.stage, self.request.name, point, self.pool.slots[0].devices)[3:]
                problems = check(compose(self.stage, overrides), overrides)
            except ConfigError as error:
                problems = error.problems
            for problem in problems:
                found.setdefault(problem, []).append(point.name)
        return [
            problem if len(names) == len(self.points) else f"{problem} (in {len(names)} points, as {names[0]})"
            for problem, names in found.items()
        ]

    def _follow(self, waiting: list[Point]) -> None:
        """Until nothing waits or runs; a stop is passed on to what runs, and nothing more is started."""
        stops, written = 0, time.monotonic()
        while self.pool.running or (waiting and not self.stop.count):
            while waiting and not self.pool.is_full and not self.stop.count:
                self.pool.start(waiting.pop(0))
            for point, code in self.pool.ended():
                self.codes[point.name] = code
                self._tell(point)
                self._write()
            while stops < self.stop.count:
                stops += 1
                self.pool.send(signal.SIGTERM)
            if time.monotonic() - written > WRITE_S:
                self._write()
                written = time.monotonic()
            time.sleep(POLL_S)

    def _run_dir(self, point: Point) -> RunDir:
        return RunDir(self.folder.path / point.name)

    def _is_wanted(self, point: Point) -> bool:
        if self.request.config.run.resume == "never":
            return True
        state = self._state(point)
        return state != "finished" and (state != "failed" or self.settings.retry_failed)

    def _state(self, point: Point) -> str:
        if point in [running for running, _ in self.pool.running.values()]:
            return "running"
        if point.name in self.codes:
            return STATES.get(self.codes[point.name], "failed")
        state = str(self._run_dir(point).read_status().get("state", "pending"))
        if state in ("running", "preparing"):
            return "interrupted"
        return "failed" if state == "pending" and point.name in self.failed_before else state

    def _rows(self) -> list[results.Row]:
        metric, maximize = self.settings.metric, self.settings.maximize
        return [
            results.row(point.name, point.settings, self._run_dir(point), metric, maximize, state=self._state(point))
            for point in self.points
        ]

    def _write(self) -> None:
        results.write(self.folder.path, self.settings.metric, self.settings.maximize, self._rows())

    def _tell(self, point: Point) -> None:
        rows = self._rows()
        (row,) = [row for row in rows if row["point"] == point.name]
        ended = sum(row["state"] in ("finished", "failed") for row in rows)
        value = f", {self.settings.metric} {row['metric']:.4f}" if row["metric"] is not None else ""
        reason = f": {self._last_line(point)}" if row["state"] == "failed" else value
        say(f"[{ended}/{len(rows)}] {point.name}: {row['state']}{reason}", wrong=row["state"] == "failed")

    def _last_line(self, point: Point) -> str:
        lines = (self.pool.logs / f"{point.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{textwrap.shorten(lines[-1] if lines else 'no message', 300)} (logs/{point.name}.log)"

    def _conclude(self, points: Sequence[Point]) -> int:
        """What came of it, and the exit code: 0 only when every point has finished."""
        states = {point.name: self._state(point) for point in points}
        failed = [name for name, state in states.items() if state == "failed"]
        if best := results.ranked(self._rows(), self.settings.maximize):
            say(f"best so far: {best[0]['point']}, {self.settings.metric} {best[0]['metric']:.4f}")
            (point,) = [point for point in self.points if point.name == best[0]["point"]]
            say(f"  bash launch/{self.stage}.sh {shlex.join(point.overrides)}")
        say(f"results: {self.folder.path / 'results.csv'}")
        if self.stop.count and any(state not in ("finished", "failed") for state in states.values()):
            say(f"{self.stop.name}: the same command goes on with the sweep")
            return STOPPED
        if failed:
            again = "sweep.retry_failed=true tries them again"
            say(f"error: {len(failed)} of {len(states)} points failed: {'; '.join(failed)}; {again}", wrong=True)
            return FAILED
        return FINISHED if all(state == "finished" for state in states.values()) else STOPPED
