"""The last rows of a metrics.jsonl while it is being written."""

import os
from collections import deque
from pathlib import Path
from typing import Any

from trainyard.rundir.metrics import parse

FIRST_LOOK = 1 << 16
"""Bytes at the end of the file that the first look reads, some hundred lines."""


class Tail:
    """The last rows of a metrics.jsonl; each look reads only what was written since the look before.

    The newest line may be written again with more values, so it is read again. A line without its end is read once it
    is whole. A resumed run cuts the file off, which is then read anew.

    Attributes:
        rows: at most `length` rows, in ascending order of their steps.
    """

    def __init__(self, path: Path, length: int):
        self.path = path
        self.rows: deque[dict[str, Any]] = deque(maxlen=length)
        self._offset = 0
        """Offset of the newest whole line."""
        self._inode = 0

    def look(self) -> None:
        """Reads the new lines. Without the file there are no rows."""
        if not self._read():
            self._inode = 0
            self._read()

    def _read(self) -> bool:
        """False when a resumed run has cut the file off, and has written on beyond the offset."""
        try:
            with self.path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                if found.st_ino != self._inode or (self.rows and found.st_size <= self._offset):
                    self.rows.clear()
                    self._inode, self._offset = found.st_ino, max(0, found.st_size - FIRST_LOOK)
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            self.rows.clear()
            self._inode = self._offset = 0
            return True
        whole = data[: data.rfind(b"\n") + 1]
        rows = parse(whole)
        if rows and self.rows and rows[0]["step"] != self.rows[-1]["step"]:
            return False
        for row in rows:
            while self.rows and self.rows[-1]["step"] >= row["step"]:
                self.rows.pop()
            self.rows.append(row)
        self._offset += whole.rfind(b"\n", 0, -1) + 1
        return True

    def values(self, metric: str) -> list[float]:
        """The values of a metric in the rows that have it."""
        return [row[metric] for row in self.rows if isinstance(row.get(metric), int | float)]
