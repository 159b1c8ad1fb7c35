"""The last rows of a metrics.jsonl that is being written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainyard.rundir.metrics import MetricsFile, read_metrics
from trainyard.runs import tail
from trainyard.runs.tail import Tail


def test_the_tail_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics, seen = MetricsFile(path, None), Tail(path, 5)
    metrics.write(1, {"loss": 4.0})
    seen.look()
    metrics.write(1, {"eval_loss": 4.5})  # the newest line once more, with more in it
    metrics.write(2, {"loss": 3.0})
    read: list[bytes] = []
    monkeypatch.setattr(tail, "parse", lambda data: read.append(data) or read_lines(data))
    seen.look()
    assert list(seen.rows) == [{"step": 1, "loss": 4.0, "eval_loss": 4.5}, {"step": 2, "loss": 3.0}]
    for step in range(3, 9):
        metrics.write(step, {"loss": float(step)})
    seen.look()
    assert seen.values("loss") == [4.0, 5.0, 6.0, 7.0, 8.0]
    size = path.stat().st_size
    seen.look()
    assert len(read[-1]) < size / 5  # the newest line alone


def read_lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    seen = Tail(path, 5)
    seen.look()
    assert seen.values("loss") == [2.0]
    with path.open("a") as stream:
        stream.write('ss": 1.5}\n')
    seen.look()
    assert seen.values("loss") == [2.0, 1.5]


def test_a_large_file_is_read_from_near_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": step / 2}) + "\n" for step in range(200_000)))
    read: list[bytes] = []
    monkeypatch.setattr(tail, "parse", lambda data: read.append(data) or read_metrics_of(data))
    seen = Tail(path, 40)
    seen.look()
    assert seen.values("loss") == [step / 2 for step in range(199_960, 200_000)]
    assert len(read[0]) <= tail.FIRST_LOOK < path.stat().st_size / 20


def read_metrics_of(data: bytes) -> list[dict[str, Any]]:
    from trainyard.rundir.metrics import parse

    return parse(data)


def test_a_resumed_run_begins_its_tail_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, seen = MetricsFile(path, None), Tail(path, 40)
    for step in range(1, 10):
        first.write(step, {"loss": 1.0})
    seen.look()
    resumed = MetricsFile(path, 5)
    resumed.write(6, {"loss": 7.0})
    seen.look()
    assert [row["step"] for row in seen.rows] == [1, 2, 3, 4, 5, 6]
    assert seen.values("loss")[-1] == 7.0
    path.unlink()
    seen.look()
    assert not seen.rows


WRITES = st.lists(st.tuples(st.integers(1, 3), st.floats(0, 9), st.booleans(), st.booleans()), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(WRITES)
def test_whenever_it_looks_it_has_what_the_file_has(
    tmp_path: Path, writes: Sequence[tuple[int, float, bool, bool]]
) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics, seen, step = MetricsFile(path, None), Tail(path, 1000), 0
    for ahead, loss, again, look in writes:
        step += ahead
        metrics.write(step, {"loss": loss})
        if again:
            metrics.write(step, {"eval_loss": loss})
        if look:
            seen.look()
            assert list(seen.rows) == read_metrics(path)
        if loss > 8:
            step = max(0, step - 4)
            metrics = MetricsFile(path, step)
            seen.look()
    seen.look()
    assert list(seen.rows) == read_metrics(path)
