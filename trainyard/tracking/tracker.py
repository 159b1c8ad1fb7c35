"""The four calls that a tracker has to offer."""

from collections.abc import Iterable
from typing import Any, Protocol

from trainyard.files import first_line

Rows = list[dict[str, Any]]
"""Lines of metrics.jsonl or of samples.jsonl."""


class Tracker(Protocol):
    """One run in a tracker. All calls come from one thread, in order; each may block, and each may raise any error."""

    name: str
    """As users know the tracker."""

    def open(self, rows: Iterable[dict[str, Any]], samples: Rows) -> None:
        """Begins the run's record, or continues it after an earlier start of the run.

        Args:
            rows: lines of metrics.jsonl up to the checkpoint; they are gone through once.
            samples: lines of samples.jsonl up to the checkpoint.
        """
        ...

    def send(self, step: int, values: dict[str, Any]) -> None:
        """A line of metrics: numbers by name, and `ranks`, which holds a list by rank for each name."""
        ...

    def show(self, samples: Rows) -> None:
        """Answers to sample prompts, as text."""
        ...

    def close(self) -> None:
        """Returns when everything is written or sent."""
        ...


def complaint(error: Exception) -> str:
    """A tracker's error in a line: its type and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error)}"
