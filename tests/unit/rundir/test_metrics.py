import errno
import io
import itertools
import json
import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.rundir import metrics
from trainyard.rundir.metrics import History, MetricsFile, read_metrics


class Counting:
    """A file that notes how much of it is read."""

    def __init__(self, stream: Any, read: list[int]):
        self._stream, self._read = stream, read

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._stream.read(size)
        self._read.append(len(content))
        return content


def test_one_line_per_step_even_when_a_step_is_logged_twice(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", None)
    file.write(0, {"eval_loss": 9.0})
    file.write(5, {"loss": 2.0})
    file.write(5, {"eval_loss": 2.5})
    file.write(10, {"loss": 1.0})
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
    assert [row["step"] for row in History(path)] == [5, 10]
    resumed.write(10, {"eval_loss": 1.0})
    resumed.write(15, {"loss": 0.5})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10, 15]
    assert read_metrics(path)[1] == {"step": 10, "loss": 10.0, "eval_loss": 1.0}
    assert list(resumed.history) == [{"step": 5, "loss": 5.0}, {"step": 10, "loss": 10.0}]  # as it was at the start
    assert list(MetricsFile(path, None).history) == [] == list(MetricsFile(tmp_path / "nowhere.jsonl", 10).history)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 60)), max_size=40), st.integers(0, 200), st.integers(1, 99))
def test_whatever_the_blocks_and_lines_are_the_file_ends_with_the_step(
    rows: Sequence[tuple[int, int]], resume_step: int, block: int
) -> None:
    steps = list(itertools.accumulate(ahead for ahead, _ in rows))
    lines = [{"step": step, "text": "x" * length} for step, (_, length) in zip(steps, rows, strict=True)]
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK_BYTES", block)
        path = Path(place) / "metrics.jsonl"
        for cut in ("", '{"step": 999, "te', "\n\n"):
            path.write_text("".join(json.dumps(row) + "\n" for row in lines) + cut)
            kept = [row for row in lines if row["step"] <= resume_step]
            resumed = MetricsFile(path, resume_step)
            assert read_metrics(path) == kept == list(resumed.history)
            resumed.write(999, {"loss": 1.0})
            assert read_metrics(path) == [*kept, {"step": 999, "loss": 1.0}]
            assert list(resumed.history) == kept


def test_a_start_reads_the_end_of_a_long_history_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = 300_000
    with path.open("w") as stream:
        stream.writelines(f'{{"step": {step}, "loss": 2.5, "learning_rate": 0.001}}\n' for step in range(1, lines + 1))
    read: list[int] = []
    opened = Path.open

    monkeypatch.setattr(Path, "open", lambda self, *given, **options: Counting(opened(self, *given, **options), read))
    tracemalloc.start()
    resumed = MetricsFile(path, lines - 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < sum(read) <= 2 * metrics.BLOCK_BYTES < path.stat().st_size / 50
    assert peak < 2**20
    monkeypatch.undo()

    tracemalloc.start()
    drawn = resumed.history.thinned(100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert 50 <= len(drawn) <= 102 and drawn[-1]["step"] == lines - 500
    apart = {later["step"] - row["step"] for row, later in itertools.pairwise(drawn[:-1])}
    assert len(apart) == 1


def test_thinned_rows_have_evenly_spaced_evaluations_and_the_last_row(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", None)
    for step in range(1, 1001):
        file.write(step, {"loss": 1.0} | ({"eval_loss": 2.0} if step % 10 == 7 else {}))
    history = History(file.path)
    for most in (16, 50, 2000):
        drawn = history.thinned(most)
        evaluations = [row["step"] for row in drawn if "eval_loss" in row]
        assert drawn == sorted(drawn, key=lambda row: row["step"]) and drawn[-1]["step"] == 1000
        assert most / 2 - 1 <= len(drawn) <= 2 * most + 1
        assert min(most / 2, 100) <= len(evaluations) <= 2 * most
    assert drawn == list(history)


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
