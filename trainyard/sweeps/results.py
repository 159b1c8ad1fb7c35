"""The results of a sweep's points: results.json and results.csv, kept up to date while the sweep goes on."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from trainyard.config.schema_launch import SweepConfig
from trainyard.errors import ConfigError
from trainyard.files import locked, read_json, write_json, write_text
from trainyard.rundir.status import State
from trainyard.runs.choice import ranked
from trainyard.runs.history import Run
from trainyard.sweeps.grid import Point


class PointState(State):
    """The state of a point: that of its run, or one that only the sweep knows."""

    PENDING = "pending"
    """Not started yet."""
    PRUNED = "pruned"
    """Given up by the search."""


ENDED = (PointState.FINISHED, PointState.FAILED, PointState.PRUNED)
"""States of points that the same command does not start again."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A point in the table of results."""

    point: str
    """Its name."""
    settings: dict[str, str]
    """The value of each swept setting; in the files each setting is a column."""
    state: str
    """One of PointState, or dead: its command is gone and did not write how it ended."""
    metric: float | None = None
    """The sweep's metric at the end of the run; the latest value while the run goes on."""
    best: float | None = None
    """The best value of the metric."""
    exit_code: int | None = None
    """This and the next four fields are copied from the run's status.json."""
    step: int | None = None
    max_steps: int | None = None
    tokens_seen: int | None = None
    seconds: float | None = None
    run: str | None = None
    """The run directory."""
    curve: dict[int, float] = field(default_factory=dict)
    """The metric by step; not part of the files."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Row":
        """The row that `to_json` has written."""
        own = {each.name for each in fields(cls)} - {"settings", "curve"}
        settings = {key: item for key, item in value.items() if key not in own}
        return cls(settings=settings, **{key: item for key, item in value.items() if key in own})

    def to_json(self) -> dict[str, Any]:
        """The row as an object of results.json; its keys are the columns of results.csv."""
        own = asdict(self)
        del own["settings"], own["curve"]
        return {"point": own.pop("point"), **self.settings, **own}


COPIED = ("exit_code", "step", "max_steps", "tokens_seen", "seconds")
"""Fields of a row that are copied from the run's status.json."""


class Results:
    """The state of every point: from its directory, or else as this command or an earlier one has seen it."""

    def __init__(self, folder: Path, settings: SweepConfig):
        self.folder, self.metric, self.maximize = folder, settings.metric, settings.maximize
        self.earlier = self._written()
        """Rows that an earlier command has written."""
        self._before = {row.point: row.state for row in self.earlier}
        self.known: dict[str, str] = {}
        """States that this command has seen or caused, by the points' names."""
        self._rows: dict[str, tuple[object, Row]] = {}
        """The last rows, each with the state of what it was read from: unchanged metrics are not read again."""

    def _written(self) -> list[Row]:
        file = self.folder / "results.json"
        try:
            return [Row.from_json(row) for row in read_json(file).get("points", [])]
        except (TypeError, AttributeError, KeyError) as error:
            raise ConfigError(
                [f"{file}: damaged ({error}). Delete it: the points' directories have the rest"]
            ) from error

    def measured(self) -> list[Row]:
        """The earlier rows, with their curves and their value of the metric that this command asks for."""
        runs = [(row, self._run(row.point)) for row in self.earlier]
        return [replace(row, metric=run.outcome(self.metric), curve=self._curve(run)) for row, run in runs]

    def run(self, point: Point) -> Run:
        """The run of a point, as its directory tells it now."""
        return self._run(point.name)

    def _run(self, name: str) -> Run:
        return Run(self.folder / name, f"{self.folder.parent.parent.name}/sweeps/{self.folder.name}/{name}")

    def state(self, point: Point) -> str:
        """The state of a point now; see Row."""
        if point.name in self.known:
            return self.known[point.name]
        before = self._before.get(point.name)
        state = self.run(point).status.state or PointState.PENDING
        only_sweep_knows = (state, before) in (
            (PointState.PREEMPTED, PointState.PRUNED),
            (PointState.PENDING, PointState.FAILED),
        )
        return str(before) if only_sweep_knows else state

    def curve(self, point: Point) -> dict[int, float]:
        """The metric by step, as far as the run has logged it."""
        return self._curve(self.run(point))

    def _curve(self, run: Run) -> dict[int, float]:
        return {each.step: each.value for each in run.values(self.metric)}

    def row(self, point: Point) -> Row:
        """The row of a point now."""
        run, state = self.run(point), self.state(point)
        origin = (state, run.status, _version(run.directory.metrics))
        known, row = self._rows.get(point.name, (None, None))
        if row is None or known != origin:
            best = run.best(self.metric, maximize=self.maximize)
            copied: dict[str, Any] = {key: getattr(run.status, key) for key in COPIED if run.status.state}
            row = Row(
                point=point.name,
                settings=point.settings,
                state=state,
                metric=run.outcome(self.metric),
                best=best.value if best else None,
                run=str(run.path),
                **copied,
            )
            self._rows[point.name] = (origin, row)
        return row

    def write(self, points: Sequence[Point]) -> None:
        """Replaces both files, each in one step. Rows of points that are not of this command are kept.

        One process writes at a time: the tasks of a job array share the files.
        """
        with locked(self.folder / "results"):
            others = {row.point: row for row in self._written()}
            self._before |= {name: row.state for name, row in others.items()}
            self._write(list((others | {point.name: self.row(point) for point in points}).values()))

    def _write(self, rows: Sequence[Row]) -> None:
        values = [row.to_json() for row in rows]
        write_json(self.folder / "results.json", {"metric": self.metric, "maximize": self.maximize, "points": values})
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in values for key in row))
        table = csv.writer(text)
        table.writerow([self.metric if key == "metric" else key for key in columns])
        table.writerows([row.get(key) for key in columns] for row in values)
        write_text(self.folder / "results.csv", text.getvalue())

    def best(self, points: Sequence[Point]) -> tuple[Point, float] | None:
        """The finished point with the best metric at its end, and that value; None if no finished point has one."""
        finished = {self.folder / point.name: point for point in points if self.state(point) == PointState.FINISHED}
        ranking = ranked([self.run(point) for point in finished.values()], self.metric, self.maximize)
        return (finished[ranking[0][0].path], ranking[0][1]) if ranking else None


def _version(file: Path) -> tuple[int, int] | None:
    """A value that changes whenever a file does; None without the file."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size
