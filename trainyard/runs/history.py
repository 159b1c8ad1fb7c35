"""One run as its directory tells it, and all the runs under a folder of outputs."""

import contextlib
import glob
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainyard.config.saved import flat
from trainyard.rundir.directory import RunDir
from trainyard.rundir.metrics import parse

ACTIVE = ("preparing", "running")
"""States in which a process holds the run directory."""


DEAD = "dead"
"""The state of a run whose status.json has an active one, while no process holds its directory."""


class Value(NamedTuple):
    """A metric at a step."""

    step: int
    value: float
    tokens: float


@dataclass(frozen=True)
class Run:
    """A run directory. Whatever is asked of it is read once."""

    path: Path
    name: str
    """`<stage>/<run.name>`, or `<stage>/sweeps/<sweep>/<point>`."""
    _measured: dict[str, list[Value]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def stage(self) -> str:
        return self.name.partition("/")[0]

    @property
    def sweep(self) -> str | None:
        parts = self.name.split("/")
        return parts[2] if len(parts) == 4 else None

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.path.name

    @cached_property
    def directory(self) -> RunDir:
        return RunDir(self.path)

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json, its state made true."""
        return true_status(self.directory)

    @property
    def state(self) -> str:
        return str(self.status.get("state", "unknown"))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """config.yaml by dotted names; empty before the run has one."""
        try:
            values = yaml.load(self.directory.config.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, yaml.YAMLError):
            return {}
        return flat(values) if isinstance(values, dict) else {}

    @cached_property
    def updated(self) -> datetime:
        """When its status was last written; for a run that kept no time, when the file was."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return datetime.fromisoformat(self.status["updated"]).astimezone(timezone.utc)
        for file in (self.directory.status, self.directory.config):
            with contextlib.suppress(OSError):
                return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
        return datetime.fromtimestamp(0, timezone.utc)  # it is being deleted

    @property
    def hours(self) -> float | None:
        """Of all its starts together, preparation included; None for a run that kept no time."""
        seconds = self.status.get("seconds")
        return seconds / 3600 if isinstance(seconds, int | float) else None

    def measured(self, metric: str) -> list[Value]:
        """A metric as it was logged; of a large metrics.jsonl only the lines that have it are parsed."""
        if metric not in self._measured:
            self._measured[metric] = list(_read(self.directory.metrics, metric))
        return self._measured[metric]

    def values(self, metric: str) -> list[Value]:
        """A metric where it is finite."""
        return [each for each in self.measured(metric) if math.isfinite(each.value)]

    def last(self, metric: str) -> float | None:
        """As it was logged last, not finite ones included."""
        measured = self.measured(metric)
        return measured[-1].value if measured else None

    def outcome(self, metric: str) -> float | None:
        """A metric of the model that the run leaves: its last value, or that at the step to which the run goes back."""
        if self.settings.get("trainer.load_best_model_at_end"):
            judge = str(self.settings.get("trainer.metric_for_best_model") or "eval_loss")
            best = self.best(judge if judge.startswith("eval_") else f"eval_{judge}")
            found = [each.value for each in self.measured(metric) if best and each.step == best.step]
            return found[0] if found else self.last(metric)
        return self.last(metric)

    def best(self, metric: str, *, maximize: bool = False) -> Value | None:
        choose = max if maximize else min
        return choose(self.values(metric), key=lambda each: each.value, default=None)

    def metric(self) -> str:
        """What a run is judged by: the held-out loss where there is one, else the training loss."""
        return "eval_loss" if self.last("eval_loss") is not None else "loss"


def _read(metrics: Path, name: str) -> Iterator[Value]:
    key = json.dumps(name).encode()
    with contextlib.suppress(OSError), metrics.open("rb") as stream:
        for line in stream:
            for row in parse(line) if key in line else ():
                if is_number(row.get(name)):
                    yield Value(row["step"], float(row[name]), row.get("tokens_seen", math.nan))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def true_status(directory: RunDir) -> dict[str, Any]:
    """status.json, with the state DEAD where an active one is told of a run that no process holds."""
    status = directory.read_status()
    if status.get("state") in ACTIVE and directory.holder() is None:
        again = directory.read_status()
        if again == status:
            return status | {"state": DEAD}
        return again  # it ended, or began, while its lock was looked at
    return status


def find(outputs: Path, stage: str | None = None, sweep: str | None = None) -> list[Run]:
    """The runs under a folder of outputs, newest first: <stage>/<name>/ and <stage>/sweeps/<sweep>/<point>/."""
    within = glob.escape(stage) if stage else "*"
    patterns = [f"{within}/sweeps/{glob.escape(sweep) if sweep else '*'}/*", *([] if sweep else [f"{within}/*"])]
    folders = [folder for pattern in patterns for folder in outputs.glob(pattern)]
    runs = [Run(folder, folder.relative_to(outputs).as_posix()) for folder in folders if is_run(folder)]
    return sorted(runs, key=lambda run: (run.updated, run.name), reverse=True)


def is_run(folder: Path) -> bool:
    return (folder / "status.json").is_file() or (folder / "config.yaml").is_file()
