"""Runs as tables in the terminal, and as JSON for other programs."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainyard.checkpoint.directory import list_checkpoints
from trainyard.rundir.status import State
from trainyard.runs import settings
from trainyard.runs.history import DEAD, Run
from trainyard.runs.numbers import count, figure, progress
from trainyard.runs.tail import Tail

COLOURS = {
    State.RUNNING: "green", State.PREPARING: "cyan", State.PREEMPTED: "yellow", State.FAILED: "red", DEAD: "red",
}  # fmt: skip

LOWER_IS_BETTER = ("loss", "perplexity")
"""Ends of the names of metrics whose lowest value is shown as the best."""


@dataclass(frozen=True)
class Summary:
    """A run in one line. The names are those of the JSON objects that `runs list --json` prints."""

    run: str
    state: str
    step: int | None
    max_steps: int | None
    metric: str
    """The metric whose values follow."""
    last: float | None
    outcome: float | None
    """The value of the model that the run leaves."""
    best: float | None
    best_step: int | None
    tokens_seen: int | None
    seconds: float | None
    updated: str
    """ISO 8601, in UTC."""
    path: str


def screen() -> Console:
    """The terminal; where the output is not a terminal, lines are not folded at 80 columns."""
    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, markup=False, width=width)


def summary(run: Run, metric: str | None = None, *, maximize: bool = False) -> Summary:
    """A run in one line, with the last and the best value of a metric, by default the metric that judges the run."""
    metric = metric or run.metric()
    best = run.best(metric, maximize=maximize)
    status = run.status
    return Summary(
        run=run.name,
        state=run.state,
        step=status.step if status.state else None,
        max_steps=status.max_steps,
        metric=metric,
        last=run.last(metric),
        outcome=run.outcome(metric),
        best=best and best.value,
        best_step=best and best.step,
        tokens_seen=status.tokens_seen if status.state else None,
        seconds=status.seconds or None,
        updated=run.updated.isoformat(timespec="seconds"),
        path=str(run.path),
    )


def described(run: Run, metric: str | None = None, *, maximize: bool = False) -> dict[str, Any]:
    """The summary of a run, ready for JSON."""
    return asdict(summary(run, metric, maximize=maximize))


def listed(runs: Sequence[Run], metric: str | None = None, *, maximize: bool = False) -> Table:
    """The table that `list` prints: a row per run."""
    table = Table()
    table.add_column("run", overflow="fold")
    for name in ("state", "step", "metric", "last", "best", "tokens", "hours", "when"):
        table.add_column(name, justify="left" if name in ("state", "metric", "when") else "right", no_wrap=True)
    for run in runs:
        each = summary(run, metric, maximize=maximize)
        table.add_row(
            run.name,
            state(run.state),
            progress(each.step, each.max_steps),
            each.metric if each.last is not None else "",
            figure(each.last),
            figure(each.best),
            count(each.tokens_seen),
            hours(run),
            when(run),
        )
    return table


def detailed(run: Run) -> list[str | Table]:
    """The lines and tables that `show` prints of one run: its state, its changed settings, its metrics."""
    status, ranks, line = run.status, run.status.world_size or 1, summary(run)
    steps = progress(line.step, line.max_steps)
    where = f"{ranks} rank{'s' * (ranks != 1)}"
    parts = [f"step {steps}", f"{count(line.tokens_seen)} tokens", where, f"updated {when(run)}"]
    if run.hours is not None:
        parts.insert(2, f"{hours(run)} hours")
    lines: list[str | Table] = [f"{run.name}: {run.state}, {', '.join(parts)}"]
    facts = {
        "command": status.command,
        "restarts": status.restarts,
        "resumed from": ", ".join(f"step {step}" for step in status.resumed_from),
        "checkpoints": ", ".join(str(step) for step, _ in list_checkpoints(run.directory.checkpoints)),
        "directory": run.path,
    }
    lines += [f"  {name:13} {value}" for name, value in facts.items() if value]
    if run.settings:
        changed = Table("setting", f"default of {run.stage}", "this run")
        for name, setting in settings.changed(run).items():
            changed.add_row(name, settings.shown(setting.default), settings.shown(setting.own))
        lines.append(changed)
    lines.append(_measured(run))
    return lines


def _measured(run: Run) -> Table:
    """Every metric of a run with its last value, and with the best one where it is a loss."""
    table = Table("metric")
    for name in ("last", "best", "at step"):
        table.add_column(name, justify="right")
    end = Tail(run.directory.metrics, 1000)
    end.look()
    losses = [name for name in ("loss", "eval_loss", "eval_perplexity") if run.measured(name)]
    names = dict.fromkeys([*losses, *(name for row in end.rows for name in row)])
    for name in (name for name in names if name not in ("step", "epoch", "tokens_seen") and run.measured(name)):
        best = run.best(name) if name.endswith(LOWER_IS_BETTER) else None
        table.add_row(name, figure(run.last(name)), figure(best and best.value), str(best.step) if best else "")
    return table


def compared(runs: Sequence[Run], metric: str, *, maximize: bool = False) -> list[list[str]]:
    """The rows of a table of runs: the names of its columns, then each run with the settings in which the runs differ
    and its results. The run's name is the first cell."""
    differing = settings.differing(runs)
    rows = [["run", *differing, "state", "step", f"last {metric}", f"best {metric}", "at step", "tokens", "hours"]]
    for number, run in enumerate(runs):
        each = summary(run, metric, maximize=maximize)
        own = [settings.shown(values[number]) for values in differing.values()]
        reached = progress(each.step, each.max_steps)
        at = "" if each.best_step is None else str(each.best_step)
        result = [figure(each.last), figure(each.best), at, count(each.tokens_seen), hours(run)]
        rows.append([run.name, *own, run.state, reached, *result])
    return rows


def upright(rows: Sequence[Sequence[str]]) -> Table:
    """A table from rows, with up to five runs side by side; more runs stand one below the other."""
    if len(rows) <= 6:
        rows = list(zip(*rows, strict=True))
    table = Table(*rows[0])
    for column in table.columns:
        column.overflow = "fold"
    for row in rows[1:]:
        table.add_row(*row)
    return table


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, COLOURS.get(name, ""))


def hours(run: Run) -> str:
    """`1.25`; empty for a run that kept no time."""
    return "" if run.hours is None else f"{run.hours:.2f}"


def when(run: Run) -> str:
    """The time of the last status, in the local time zone."""
    return run.updated.astimezone().strftime("%Y-%m-%d %H:%M")
