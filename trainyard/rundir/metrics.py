"""metrics.jsonl and files like it: a line of JSON per step, written by rank 0, read by anybody at any time."""

import io
import json
from pathlib import Path
from typing import Any

from trainyard.files import json_lines, write_text


class MetricsFile:
    """metrics.jsonl: one line per step in ascending order, each step once, after any number of resumes.

    Attributes:
        history: the lines of earlier starts that were kept.
    """

    def __init__(self, path: Path, resume_step: int | None):
        """Keeps the lines of an earlier file up to `resume_step`; None keeps none."""
        self.path = path
        rows = [] if resume_step is None else [row for row in read_metrics(path) if row["step"] <= resume_step]
        write_text(path, json_lines(rows))
        self.history = rows
        self._last: dict[str, Any] = rows[-1] if rows else {}
        self._offset = path.stat().st_size - len(json_lines([self._last])) if rows else 0

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Adds values to a step's line. The newest line is written again when it is this step's."""
        with self.path.open("r+b", buffering=0) as stream:
            if self._last.get("step") == step:
                self._last |= values
            else:
                self._offset = stream.seek(0, 2)
                self._last = {"step": step, **values}
            stream.seek(self._offset)
            before = stream.read()
            try:
                _overwrite(stream, self._offset, json_lines([self._last]).encode())
            except OSError:  # the disk is full: the line that was there needs no further room
                _overwrite(stream, self._offset, before)
                raise


def _overwrite(stream: io.RawIOBase, offset: int, content: bytes) -> None:
    """Replaces what a file has from `offset` on. Bytes that are there are written over before the file grows."""
    stream.seek(offset)
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    stream.truncate()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; empty when it is missing. A line that a crash cut off is passed over."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return []


def parse(lines: bytes) -> list[dict[str, Any]]:
    """The rows among lines; others are passed over.

    Lines are split as bytes, because str.splitlines would also split at characters such as U+2028 inside of a value.
    """
    rows = []
    for line in lines.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
