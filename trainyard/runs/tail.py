"""The end of a metrics.jsonl that is being written."""

import os
from collections import deque
from pathlib import Path
from typing import Any

from trainyard.rundir.metrics import parse

FIRST_LOOK = 1 << 16
"""Bytes from the end that the first look reads: some hundred lines."""


class Tail:
    """The last rows of a metrics.jsonl, read on from where the last look ended.

    The newest line may be written again, with more in it; one that is torn is read when it is whole. A file in the
    place of the earlier one, which a resumed run writes, is read anew.
    """

    def __init__(self, path: Path, length: int):
        self.path = path
        self.rows: deque[dict[str, Any]] = deque(maxlen=length)
        self._offset = 0
        """Where the newest whole line begins."""
        self._inode = 0

    def look(self) -> None:
        """Reads what is new. A file that is gone has no rows."""
        try:
            with self.path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self.rows.clear()
                    self._inode, self._offset = found.st_ino, max(0, found.st_size - FIRST_LOOK)
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            self.rows.clear()
            self._inode = self._offset = 0
            return
        whole = data[: data.rfind(b"\n") + 1]
        for row in parse(whole):
            while self.rows and self.rows[-1]["step"] >= row["step"]:
                self.rows.pop()
            self.rows.append(row)
        self._offset += whole.rfind(b"\n", 0, -1) + 1

    def values(self, metric: str) -> list[float]:
        return [row[metric] for row in self.rows if isinstance(row.get(metric), int | float)]
