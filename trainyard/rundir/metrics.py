"""metrics.jsonl, written by rank 0, and its like: lines of JSON by steps, read by whoever wants to know."""

import json
from pathlib import Path
from typing import Any

from trainyard.files import write_text


class MetricsFile:
    """metrics.jsonl: one line per step, the steps ascending, none twice, after any number of resumes."""

    def __init__(self, path: Path, resume_step: int | None):
        """Keeps of an earlier file what lies at or before `resume_step`; None starts anew."""
        self.path = path
        rows = [] if resume_step is None else [row for row in read_metrics(path) if row["step"] <= resume_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self.history = rows
        self._last: dict[str, Any] = rows[-1] if rows else {}
        self._offset = path.stat().st_size - len(json.dumps(self._last) + "\n") if rows else 0

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Adds values to a step's line; the line of the newest step is written again, never doubled."""
        with self.path.open("r+b") as stream:
            if self._last.get("step") == step:
                self._last |= values
            else:
                self._offset = stream.seek(0, 2)
                self._last = {"step": step, **values}
            stream.seek(self._offset)
            stream.truncate()
            stream.write((json.dumps(self._last) + "\n").encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none where there is none. One that a crash cut off is passed over."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return []


def parse(lines: bytes) -> list[dict[str, Any]]:
    """What lines hold; one that is no row is passed over. Bytes, for text has more ends of lines than JSON escapes."""
    rows = []
    for line in lines.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
