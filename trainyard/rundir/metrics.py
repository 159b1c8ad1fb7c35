"""metrics.jsonl and files like it: a line of JSON per step, written by rank 0, read by anybody at any time.

A long run has hundreds of thousands of lines, so only their readers' own use decides how many are in memory at a time.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from trainyard.files import json_lines, write_text

Row = dict[str, Any]

BLOCK_BYTES = 1 << 16
"""The end of a file is read in blocks of this size, each some hundred lines."""


class MetricsFile:
    """metrics.jsonl: one line per step in ascending order, each step once, after any number of resumes.

    Attributes:
        history: the lines of earlier starts that were kept.
    """

    def __init__(self, path: Path, resume_step: int | None):
        """Cuts an earlier file off behind the line of `resume_step`; None keeps no line. Reads what it cuts off."""
        self.path = path
        self._last: Row = {}
        self._offset = 0
        """Where the last line begins."""
        if resume_step is None or not path.exists():
            write_text(path, "")
        else:
            self._offset, self._last = _last_row(path, resume_step)
            if self._last:
                self.write(self._last["step"], {})  # cuts off what follows; a crash may have cut off its own end
            else:
                os.truncate(path, 0)
        self.history = History(path, self._offset, dict(self._last))

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


@dataclass(frozen=True)
class History:
    """The first lines of a metrics.jsonl, which may grow meanwhile. Each pass reads the file, one row at a time."""

    path: Path
    end: int | None = None
    """Offset at which the lines end; None: those that are there."""
    last: Row | None = None
    """The row that begins at `end`, as it was: it may be written again with more values."""

    def __iter__(self) -> Iterator[Row]:
        yield from parsed(self._lines())
        if self.last:
            yield self.last

    def thinned(self, most: int) -> list[Row]:
        """Evenly spaced rows, evenly spaced evaluations, at most `most` of each, and the last row.

        The other lines are not parsed.
        """
        rows, evaluations = Thinned(most), Thinned(most)
        last = None
        for number, line in enumerate(self._lines()):
            rows.add((number, line))
            if b'"eval_' in line:
                evaluations.add((number, line))
            last = (number, line)
        chosen = dict(filter(None, [*rows.kept, *evaluations.kept, None if self.last else last]))
        return [*parsed(line for _, line in sorted(chosen.items())), *filter(None, [self.last])]

    def _lines(self) -> Iterator[bytes]:
        left = float("inf") if self.end is None else self.end
        try:
            with self.path.open("rb") as stream:
                for line in stream:
                    left -= len(line)
                    if left < 0:
                        return
                    yield line
        except FileNotFoundError:
            return


class Thinned:
    """At most `most` of any number of items, evenly spaced, in one pass: whenever there are more, every other goes."""

    def __init__(self, most: int):
        self.kept: list[tuple[int, bytes]] = []
        self._most, self._apart, self._seen = most, 1, 0

    def add(self, item: tuple[int, bytes]) -> None:
        """Takes the next item."""
        if self._seen % self._apart == 0:
            if len(self.kept) == self._most:
                del self.kept[1::2]
                self._apart *= 2
            if self._seen % self._apart == 0:
                self.kept.append(item)
        self._seen += 1


def read_metrics(path: Path) -> list[Row]:
    """The rows of a file; empty when it is missing. A line that a crash cut off is passed over."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return []


def parse(lines: bytes) -> list[Row]:
    """The rows among lines; others are passed over.

    Lines are split as bytes, because str.splitlines would also split at characters such as U+2028 inside of a value.
    """
    return list(parsed(lines.splitlines()))


def parsed(lines: Iterable[bytes]) -> Iterator[Row]:
    """The rows among lines; others are passed over."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _last_row(path: Path, step: int) -> tuple[int, Row]:
    """Offset and content of the last row up to a step, looked for from the end; (0, {}) when there is none."""
    with path.open("rb") as stream:
        for offset, line in _backwards(stream):
            for row in parsed([line]):
                if row["step"] <= step:
                    return offset, row
    return 0, {}


def _backwards(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each with its offset, the last one first."""
    start, rest = stream.seek(0, 2), b""
    while start > 0:
        size = min(BLOCK_BYTES, start)
        start -= size
        stream.seek(start)
        first, *lines = (stream.read(size) + rest).split(b"\n")
        offset = start + size + len(rest)
        for line in reversed(lines):
            offset -= len(line)
            yield offset, line
            offset -= 1
        rest = first
    yield 0, rest
