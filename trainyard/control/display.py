"""The controller's screen while a run goes on: the lines of rank 0 and one progress bar."""

import sys
import time
from pathlib import Path
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console

from trainyard.rundir.messages import Phase, Progress
from trainyard.runs.numbers import clock

PLAIN_INTERVAL_S = 10.0
"""Seconds between two progress lines where the output is not a terminal."""


class Display:
    """Shows a run by its files: console.log line by line, and the progress as a bar or as a line now and then."""

    def __init__(self, console_log: Path | None):
        """None shows nothing, on nodes whose run is shown by the first node."""
        self._log = console_log
        self._offset = console_log.stat().st_size if console_log and console_log.exists() else 0
        self._console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._bar: rich_progress.Progress | None = None
        self._last_plain = time.monotonic()
        self._last_step: int | None = -1

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Shows what is new since the last call."""
        if self._log is None:
            return
        self._forward_lines(self._log)
        if progress.max_steps:
            if self._console.is_terminal:
                self._draw(progress)
            elif progress.step != self._last_step and time.monotonic() - self._last_plain > PLAIN_INTERVAL_S:
                self._last_plain, self._last_step = time.monotonic(), progress.step
                self._print(f"step {progress.step}/{progress.max_steps}  {describe(progress)}")

    def _forward_lines(self, log: Path) -> None:
        try:
            with log.open("rb") as stream:
                stream.seek(self._offset)
                new = stream.read()
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", errors="replace").splitlines():
            self._print(line)

    def _print(self, line: str) -> None:
        try:
            self._console.print(line, markup=False)
        except (OSError, SystemExit):  # the reader is gone, as `| head`; rich would leave, but the run goes on
            self._console.quiet = True

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            columns = (
                rich_progress.BarColumn(),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn("{task.description}"),
            )
            self._bar = rich_progress.Progress(*columns, console=self._console, refresh_per_second=4)
            self._task = self._bar.add_task("", total=progress.max_steps)
            self._bar.start()
        self._bar.update(self._task, completed=progress.step, description=describe(progress))


def describe(progress: Progress) -> str:
    """`loss 3.214  12,345 tok/s  eta 1:02:03`, as far as known; begins with the phase unless that is training."""
    parts = []
    if progress.phase not in ("", Phase.TRAINING):
        parts.append(progress.phase)
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tok/s")
    if progress.eta_s is not None:
        parts.append(f"eta {clock(progress.eta_s)}")
    return "  ".join(parts)
