import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainyard.rundir.metrics import MetricsFile, read_metrics


def test_one_line_per_step_even_when_a_step_is_logged_twice(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", None)
    metrics.write(0, {"eval_loss": 9.0})
    metrics.write(5, {"loss": 2.0})
    metrics.write(5, {"eval_loss": 2.5})
    metrics.write(10, {"loss": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 0, "eval_loss": 9.0},
        {"step": 5, "loss": 2.0, "eval_loss": 2.5},
        {"step": 10, "loss": 1.0},
    ]


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, None)
    for step in (5, 10, 15):
        first.write(step, {"loss": float(step)})
    path.write_text(path.read_text() + '{"step": 20, "lo')  # cut off by a kill
    resumed = MetricsFile(path, 10)
    assert [row["step"] for row in resumed.history] == [5, 10]
    resumed.write(10, {"eval_loss": 1.0})
    resumed.write(15, {"loss": 0.5})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10, 15]
    assert read_metrics(path)[1] == {"step": 10, "loss": 10.0, "eval_loss": 1.0}
    assert MetricsFile(path, None).history == []


def test_a_line_may_hold_what_text_takes_for_the_end_of_one(tmp_path: Path) -> None:
    rows = [{"step": 0, "response": "one\u2028two\x85three"}, {"step": 5, "response": "\u2029"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "samples.jsonl").write_text(lines + '{"step": 10, "resp', encoding="utf-8")
    assert read_metrics(tmp_path / "samples.jsonl") == rows


class Full(io.FileIO):
    """A file on a disk that has room for no byte beyond `room`."""

    room = 0

    def write(self, content: Any) -> int:
        fits = max(0, self.room - self.tell())
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(content)[:fits])


@pytest.mark.parametrize("step", [2, 3])
def test_on_a_full_disk_the_lines_that_were_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, None)
    metrics.write(1, {"loss": 3.0})
    metrics.write(2, {"loss": 2.0})
    before = path.read_bytes()
    monkeypatch.setattr(Full, "room", len(before) + 5)
    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left on device"):
        full.setattr(Path, "open", lambda self, mode, **_: Full(self, mode.replace("b", "")))
        metrics.write(step, {"eval_loss": 2.5})
    assert path.read_bytes() == before
