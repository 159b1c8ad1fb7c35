"""Runs as tables in the terminal, and as JSON."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainyard.checkpoint import directory
from trainyard.runs import settings
from trainyard.runs.history import DEAD, Run
from trainyard.runs.tail import Tail


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


COLOURS = {"running": "green", "preparing": "cyan", "preempted": "yellow", "failed": "red", DEAD: "red"}


LOWER_IS_BETTER = ("loss", "perplexity")
"""Ends of the names of metrics whose best value is worth a word."""


def screen() -> Console:
    """The terminal; without one, lines as long as they are."""
    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, markup=False, width=width)


def described(run: Run, metric: str | None = None, *, maximize: bool = False) -> dict[str, Any]:
    """A run's line of `list`, for machines."""
    metric = metric or run.metric()
    best = run.best(metric, maximize=maximize)
    status = run.status
    return {
        "run": run.name,
        "state": run.state,
        "step": status.get("step"),
        "max_steps": status.get("max_steps"),
        "metric": metric,
        "last": run.last(metric),
        "best": best and best.value,
        "best_step": best and best.step,
        "tokens_seen": status.get("tokens_seen"),
        "seconds": status.get("seconds"),
        "updated": run.updated.isoformat(timespec="seconds"),
        "path": str(run.path),
    }


def listed(runs: Sequence[Run], metric: str | None = None, *, maximize: bool = False) -> Table:
    table = Table()
    table.add_column("run", overflow="fold")
    for name in ("state", "step", "metric", "last", "best", "tokens", "hours", "when"):
        table.add_column(name, justify="left" if name in ("state", "metric", "when") else "right", no_wrap=True)
    for run in runs:
        facts = described(run, metric, maximize=maximize)
        table.add_row(
            run.name,
            state(run.state),
            progress(facts["step"], facts["max_steps"]),
            facts["metric"] if facts["last"] is not None else "",
            figure(facts["last"]),
            figure(facts["best"]),
            count(facts["tokens_seen"]),
            hours(run),
            when(run),
        )
    return table


def detailed(run: Run) -> list[str | Table]:
    """What `show` prints of one run."""
    status, ranks = run.status, run.status.get("world_size") or 1
    steps = progress(status.get("step"), status.get("max_steps"))
    where = f"{ranks} rank{'s' * (ranks != 1)}"
    parts = [f"step {steps}", f"{count(status.get('tokens_seen'))} tokens", where, f"updated {when(run)}"]
    if run.hours is not None:
        parts.insert(2, f"{hours(run)} hours")
    lines: list[str | Table] = [f"{run.name}: {run.state}, {', '.join(parts)}"]
    facts = {
        "command": status.get("command"),
        "restarts": status.get("restarts"),
        "resumed from": ", ".join(f"step {step}" for step in status.get("resumed_from") or []),
        "checkpoints": ", ".join(str(step) for step, _ in directory.list_checkpoints(run.directory.checkpoints)),
        "directory": run.path,
    }
    lines += [f"  {name:13} {value}" for name, value in facts.items() if value]
    if run.settings:
        lines.append(_pairs("setting", settings.changed(run), f"default of {run.stage}", "this run"))
    lines.append(_measured(run))
    return lines


def _pairs(title: str, pairs: dict[str, tuple[Any, Any]], *columns: str) -> Table:
    table = Table(title, *columns)
    for name, values in pairs.items():
        table.add_row(name, *map(settings.shown, values))
    return table


def _measured(run: Run) -> Table:
    """Every metric of a run: its last value, and of losses the best."""
    table = Table("metric")
    for name in ("last", "best", "at step"):
        table.add_column(name, justify="right")
    end = Tail(run.directory.metrics, 1000)
    end.look()
    losses = [name for name in ("loss", "eval_loss", "eval_perplexity") if run.measured(name)]
    names = dict.fromkeys([*losses, *(name for row in end.rows for name in row)])
    for name in (name for name in names if name not in ("step", "epoch", "tokens_seen")):
        best = run.best(name) if name.endswith(LOWER_IS_BETTER) else None
        table.add_row(name, figure(run.last(name)), figure(best and best.value), str(best.step) if best else "")
    return table


def compared(runs: Sequence[Run], metric: str, *, maximize: bool = False) -> list[list[str]]:
    """Rows of a table, the names of its columns first: each run with what differs and what came of it."""
    differing = settings.differing(runs)
    rows = [["run", *differing, "state", "step", f"last {metric}", f"best {metric}", "at step", "tokens", "hours"]]
    for number, run in enumerate(runs):
        facts = described(run, metric, maximize=maximize)
        own = [settings.shown(values[number]) for values in differing.values()]
        reached = progress(facts["step"], facts["max_steps"])
        at = "" if facts["best_step"] is None else str(facts["best_step"])
        result = [figure(facts["last"]), figure(facts["best"]), at, count(facts["tokens_seen"]), hours(run)]
        rows.append([run.name, *own, run.state, reached, *result])
    return rows


def upright(rows: Sequence[Sequence[str]]) -> Table:
    """A table with up to five runs side by side, one below the other where they are more."""
    if len(rows) <= 6:
        rows = list(zip(*rows, strict=True))
    table = Table(*rows[0])
    for column in table.columns:
        column.overflow = "fold"
    for row in rows[1:]:
        table.add_row(*row)
    return table


def state(name: str) -> Text:
    return Text(name, COLOURS.get(name, ""))


def progress(step: int | None, total: int | None) -> str:
    return "" if step is None else f"{step:,} of {total:,}" if total else f"{step:,}"


def figure(value: float | None) -> str:
    """`3.2140`, with fewer decimals where there are more digits before them."""
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def count(number: float | None) -> str:
    """`1.23M`."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def hours(run: Run) -> str:
    return "" if run.hours is None else f"{run.hours:.2f}"


def when(run: Run) -> str:
    return run.updated.astimezone().strftime("%Y-%m-%d %H:%M")
