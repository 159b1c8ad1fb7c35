"""All runs in the terminal while they go on: state, step, loss, speed, and the time until they end."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from trainyard.rundir.messages import Phase, Progress
from trainyard.runs import numbers, tables
from trainyard.runs.choice import START
from trainyard.runs.history import ACTIVE, Run, find
from trainyard.runs.tail import Tail

SPARK_LENGTH = 40
"""Losses in a sparkline."""

BARS = "▁▂▃▄▅▆▇█"

PLAIN_BARS = "_.-~=+*#"
"""For terminals without Unicode."""


@dataclass(frozen=True)
class Glance:
    """The state of a run at one moment, as the view shows it."""

    name: str
    state: str
    step: str
    loss: float | None
    losses: tuple[float, ...]
    held_out: float | None
    tokens_per_second: float | None
    eta_s: float | None

    def cells(self, bars: str = BARS, length: int = SPARK_LENGTH) -> list[Any]:
        """The cells of its row, in the order of COLUMNS."""
        speed = "" if self.tokens_per_second is None else f"{self.tokens_per_second:,.0f}"
        eta = "" if self.eta_s is None else numbers.clock(self.eta_s)
        spark = sparkline(self.losses[-length:], bars)
        return [
            self.name, tables.state(self.state), self.step, numbers.figure(self.loss), spark,
            numbers.figure(self.held_out), speed, eta,
        ]  # fmt: skip


COLUMNS = ("run", "state", "step", "loss", "lately", "held-out", "tokens/s", "eta")


@dataclass
class Watcher:
    """Looks at the runs under a folder again and again; of metrics.jsonl each look reads only the new lines.

    Attributes:
        tails: what is read of each run's metrics.jsonl, by its directory.
    """

    outputs: Path
    stage: str | None = None
    tails: dict[Path, Tail] = field(default_factory=dict)

    def look(self) -> list[Glance]:
        """All runs: the active ones first, each group newest first."""
        runs = sorted(find(self.outputs, self.stage), key=lambda run: run.state not in ACTIVE)
        known, self.tails = self.tails, {}
        for run in runs:
            self.tails[run.path] = known.get(run.path) or Tail(run.directory.metrics, 5 * SPARK_LENGTH)
        return [self._glance(run) for run in runs]

    def _glance(self, run: Run) -> Glance:
        status, state, tail = run.status, run.state, self.tails[run.path]
        tail.look()
        progress = Progress.read(run.directory) if state in ACTIVE else Progress()
        step = progress.step if progress.step is not None else status.step if status.state else None
        losses, held_out, speeds = (tail.values(name) for name in ("loss", "eval_loss", "tokens_per_second"))
        return Glance(
            name=run.name,
            state=state if progress.phase in ("", Phase.TRAINING, Phase.DONE) else f"{state}: {progress.phase}",
            step=numbers.progress(step, status.max_steps),
            loss=losses[-1] if losses else None,
            losses=tuple(losses[-SPARK_LENGTH:]),
            held_out=held_out[-1] if held_out else None,
            tokens_per_second=speeds[-1] if speeds and state in ACTIVE else None,
            eta_s=progress.eta_s,
        )


def sparkline(values: Sequence[float], bars: str = BARS) -> str:
    """A bar for each value, on a scale from the lowest to the highest; `!` for a value that is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else "!" for value in values)


def watch(watcher: Watcher, screen: Console, *, interval_s: float, once: bool) -> int:
    """Shows the runs until Ctrl-C, and returns 0.

    A terminal shows a table that is drawn again each `interval_s` seconds. Other outputs get a line for each run when
    something about it has changed, and with `once` one line for each run.
    """
    try:
        if once or not screen.is_terminal:
            _print(watcher, screen, interval_s, once)
        else:
            with Live(_table(watcher, screen), console=screen, auto_refresh=False, screen=False) as live:
                while True:
                    time.sleep(interval_s)
                    live.update(_table(watcher, screen), refresh=True)
    except KeyboardInterrupt:
        pass
    return 0


def _table(watcher: Watcher, screen: Console) -> Table:
    table = Table(*COLUMNS, caption=time.strftime("%H:%M:%S, Ctrl-C ends the view, not the runs"))
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow, table.columns[0].min_width = "fold", 16
    bars = BARS if screen.encoding.startswith("utf") else PLAIN_BARS
    length = SPARK_LENGTH if screen.width >= 130 else SPARK_LENGTH // 3
    glances = watcher.look()
    for glance in glances:
        table.add_row(*glance.cells(bars, length))
    if not glances:
        table.add_row(f"no runs yet; {START}")
    return table


def _print(watcher: Watcher, screen: Console, interval_s: float, once: bool) -> None:
    before: set[Glance] = set()
    while True:
        glances = watcher.look()
        for glance in glances:
            if glance not in before:
                cells = (str(cell) for cell in glance.cells())
                labels = ("", "", "step ", "loss ", "", "held-out ", "tokens/s ", "eta ")
                line = "  ".join(f"{label}{cell}" for label, cell in zip(labels, cells, strict=True) if cell)
                screen.print(line, soft_wrap=True)
        if once and not glances:
            screen.print(f"no runs in {watcher.outputs}; {START}", soft_wrap=True)
        if once:
            return
        before = set(glances)
        time.sleep(interval_s)
