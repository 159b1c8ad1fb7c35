"""A run as its directory shows it, and all runs under a folder of outputs."""

import contextlib
import glob
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainyard.config.saved import flat
from trainyard.rundir.directory import RunDir
from trainyard.rundir.metrics import parse
from trainyard.rundir.status import State, Status

ACTIVE = (State.PREPARING, State.RUNNING)
"""States of a run that a process works on; it holds the lock of the run directory."""


SAVED = "save_stall_s"
"""A metric that every step with a checkpoint has."""

DEAD = "dead"
"""The state of a run whose status.json says that it is active, while no process holds its lock."""


class Value(NamedTuple):
    """A metric at a step."""

    step: int
    value: float
    tokens: float


@dataclass(frozen=True)
class Run:
    """A run directory. Each of its files is read when it is first needed, and once."""

    path: Path
    name: str
    """`<stage>/<run.name>`, or `<stage>/sweeps/<sweep>/<point>`."""
    _measured: dict[str, list[Value]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def stage(self) -> str:
        """pretrain or sft: the first part of the name."""
        return self.name.partition("/")[0]

    @property
    def sweep(self) -> str | None:
        """The sweep that the run is a point of."""
        parts = self.name.split("/")
        return parts[2] if len(parts) == 4 else None

    @property
    def short(self) -> str:
        """The last part of the name."""
        return self.path.name

    @cached_property
    def directory(self) -> RunDir:
        """The paths and the lock of the run directory."""
        return RunDir(self.path)

    @cached_property
    def status(self) -> Status:
        """status.json with its true state, see `true_status`; its state is empty without the file."""
        return true_status(self.directory)

    @property
    def state(self) -> str:
        """preparing, running, finished, preempted, failed or dead; unknown without a readable status.json."""
        return self.status.state or "unknown"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """config.yaml by dotted names; empty before the controller has written it."""
        try:
            values = yaml.load(self.directory.config.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, yaml.YAMLError):
            return {}
        return flat(values) if isinstance(values, dict) else {}

    @cached_property
    def updated(self) -> datetime:
        """The time of the last status, in UTC; where the status has no time, that of the file."""
        with contextlib.suppress(TypeError, ValueError):
            return datetime.fromisoformat(self.status.updated).astimezone(timezone.utc)
        for file in (self.directory.status, self.directory.config):
            with contextlib.suppress(OSError):
                return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
        return datetime.fromtimestamp(0, timezone.utc)  # it is being deleted

    @property
    def hours(self) -> float | None:
        """Hours of all starts together, preparation included; None where the status has no seconds."""
        return self.status.seconds / 3600 if self.status.seconds else None

    def measured(self, metric: str) -> list[Value]:
        """All logged values of a metric. Of a large metrics.jsonl only the lines with the metric are parsed."""
        if metric not in self._measured:
            self._measured[metric] = list(_read(self.directory.metrics, metric))
        return self._measured[metric]

    def values(self, metric: str) -> list[Value]:
        """The finite values of a metric."""
        return [each for each in self.measured(metric) if math.isfinite(each.value)]

    def last(self, metric: str) -> float | None:
        """The last logged value of a metric, NaN and infinity included; None without any."""
        measured = self.measured(metric)
        return measured[-1].value if measured else None

    def outcome(self, metric: str) -> float | None:
        """A metric of the model that the run leaves, its last value up to the model's step; None without a value."""
        step = self.model_step
        found = [each.value for each in self.measured(metric) if step is None or each.step <= step]
        return found[-1] if found else None

    @cached_property
    def model_step(self) -> int | None:
        """The step of the model that the run leaves, or would leave now; None: the last.

        With trainer.load_best_model_at_end it is the best of the evaluations whose step has been saved.
        """
        if self.status.model_step is not None or not self.settings.get("trainer.load_best_model_at_end"):
            return self.status.model_step
        judge = str(self.settings.get("trainer.metric_for_best_model") or "eval_loss")
        saved = {each.step for each in self.measured(SAVED)}
        values = self.values(judge if judge.startswith("eval_") else f"eval_{judge}")
        best = min((each for each in values if each.step in saved), key=lambda each: each.value, default=None)
        return best.step if best else None

    def best(self, metric: str, *, maximize: bool = False) -> Value | None:
        """The lowest finite value of a metric, or the highest; before the first step it is not the run's."""
        choose = max if maximize else min
        return choose((each for each in self.values(metric) if each.step), key=lambda each: each.value, default=None)

    def metric(self) -> str:
        """The metric that judges the run by default: the held-out loss where it was measured, else the loss."""
        return "eval_loss" if self.last("eval_loss") is not None else "loss"


def _read(metrics: Path, name: str) -> Iterator[Value]:
    """The values of a metric in a metrics.jsonl."""
    key = json.dumps(name).encode()
    with contextlib.suppress(OSError), metrics.open("rb") as stream:
        for line in stream:
            for row in parse(line) if key in line else ():
                if is_number(row.get(name)):
                    yield Value(row["step"], float(row[name]), row.get("tokens_seen", math.nan))


def is_number(value: Any) -> bool:
    """Is it an int or a float? A bool is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def true_status(directory: RunDir) -> Status:
    """status.json, with the state DEAD in the place of an active one when no process holds the run's lock."""
    status = Status.read(directory)
    if status.state in ACTIVE and directory.holder() is None:
        again = Status.read(directory)
        if again == status:
            return replace(status, state=DEAD)
        return again  # the run ended, or began, between the two looks
    return status


def find(outputs: Path, stage: str | None = None, sweep: str | None = None) -> list[Run]:
    """The runs under a folder of outputs, newest first: <stage>/<name>/ and <stage>/sweeps/<sweep>/<point>/.

    Args:
        stage: only runs of this stage.
        sweep: only points of this sweep.
    """
    within = glob.escape(stage) if stage else "*"
    patterns = [f"{within}/sweeps/{glob.escape(sweep) if sweep else '*'}/*", *([] if sweep else [f"{within}/*"])]
    folders = [folder for pattern in patterns for folder in outputs.glob(pattern)]
    runs = [Run(folder, folder.relative_to(outputs).as_posix()) for folder in folders if is_run(folder)]
    return sorted(runs, key=lambda run: (run.updated, run.name), reverse=True)


def is_run(folder: Path) -> bool:
    """Is it a run directory? It has a status.json or a config.yaml."""
    return (folder / "status.json").is_file() or (folder / "config.yaml").is_file()
