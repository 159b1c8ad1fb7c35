"""What comes of the points of a sweep: results.json and results.csv, kept true while it goes on."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainyard.config.schema import SweepConfig
from trainyard.files import locked, read_json, write_json, write_text
from trainyard.runs.choice import ranked
from trainyard.runs.history import Run
from trainyard.sweeps.grid import Point

Row = dict[str, Any]


ENDED = ("finished", "failed", "pruned")
"""States of points that the same command leaves alone."""


_COPIED = ("exit_code", "step", "max_steps", "tokens_seen", "seconds")
"""From a run's status.json to its row."""


def _version(file: Path) -> tuple[int, int] | None:
    """Changes whenever a file does; None: it is not there."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


class Results:
    """Reads the directories of the points, and knows from this command or an earlier one what they cannot tell."""

    def __init__(self, folder: Path, settings: SweepConfig):
        self.folder, self.metric, self.maximize = folder, settings.metric, settings.maximize
        self.earlier = self._written()
        """Rows that an earlier command has left."""
        self._before = {row["point"]: row["state"] for row in self.earlier}
        self.known: dict[str, str] = {}
        """States that this command has seen or brought about, by the points' names."""
        self._rows: dict[str, tuple[object, Row]] = {}
        """The last rows, each with what it was read from: metrics that did not grow are not read again."""

    def _written(self) -> list[Row]:
        rows: list[Row] = read_json(self.folder / "results.json").get("points", [])
        return rows

    def measured(self) -> list[Row]:
        """The earlier rows, with the metric that is asked for now as their runs tell it; by step in `curve`."""
        runs = [(row, self._run(row["point"])) for row in self.earlier]
        return [row | {"metric": run.outcome(self.metric), "curve": self._curve(run)} for row, run in runs]

    def run(self, point: Point) -> Run:
        """The run of a point as its directory tells it now."""
        return self._run(point.name)

    def _run(self, name: str) -> Run:
        return Run(self.folder / name, f"{self.folder.parent.parent.name}/sweeps/{self.folder.name}/{name}")

    def state(self, point: Point) -> str:
        """pending, running, dead, preempted, finished, failed, or pruned."""
        if point.name in self.known:
            return self.known[point.name]
        before = self._before.get(point.name)
        state = str(self.run(point).status.get("state", "pending"))
        only_sweep_knows = (state, before) in (("preempted", "pruned"), ("pending", "failed"))
        return str(before) if only_sweep_knows else state

    def curve(self, point: Point) -> dict[int, float]:
        """The metric by step, as far as it is written down."""
        return self._curve(self.run(point))

    def _curve(self, run: Run) -> dict[int, float]:
        return {each.step: each.value for each in run.values(self.metric)}

    def row(self, point: Point) -> Row:
        """What a point is, its state, and its metric at the end and at its best."""
        run, state = self.run(point), self.state(point)
        origin = (state, run.status, _version(run.directory.metrics))
        known, row = self._rows.get(point.name, (None, {}))
        if known != origin:
            best = run.best(self.metric, maximize=self.maximize)
            measured = {"metric": run.outcome(self.metric), "best": best.value if best else None}
            copied = {key: run.status.get(key) for key in _COPIED}
            where = {"run": str(run.path)}
            row = {"point": point.name, **point.settings, "state": state, **measured, **copied, **where}
            self._rows[point.name] = (origin, row)
        return row

    def write(self, points: Sequence[Point]) -> None:
        """Replaces both files, each in one step, and keeps the rows of other points that the sweep has had.

        One process at a time, for each task of a job array writes them.
        """
        with locked(self.folder / "results"):
            others = {row["point"]: row for row in self._written()}
            self._before |= {name: row["state"] for name, row in others.items()}
            self._write(list((others | {point.name: self.row(point) for point in points}).values()))

    def _write(self, rows: Sequence[Row]) -> None:
        write_json(self.folder / "results.json", {"metric": self.metric, "maximize": self.maximize, "points": rows})
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = csv.writer(text)
        table.writerow([self.metric if key == "metric" else key for key in columns])
        table.writerows([row.get(key) for key in columns] for row in rows)
        write_text(self.folder / "results.csv", text.getvalue())

    def best(self, points: Sequence[Point]) -> tuple[Point, float] | None:
        """The finished point with the best metric at its end."""
        finished = {self.folder / point.name: point for point in points if self.state(point) == "finished"}
        ranking = ranked([self.run(point) for point in finished.values()], self.metric, self.maximize)
        return (finished[ranking[0][0].path], ranking[0][1]) if ranking else None
