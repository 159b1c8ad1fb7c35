"""python -m trainyard runs watch: runs that are written while they are looked at."""

import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from trainyard.files import write_json
from trainyard.rundir.metrics import MetricsFile, read_metrics
from trainyard.runs import tail, watch
from trainyard.runs.tail import Tail
from trainyard.runs.watch import Watcher, sparkline
from unit.run_dirs import make_run


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


@given(st.lists(st.floats(width=32), max_size=60))
def test_a_sparkline_has_a_bar_for_each_value(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == len(values)
    finite = [(value, bar) for value, bar in zip(values, bars, strict=True) if math.isfinite(value)]
    assert bars.count("!") == len(values) - len(finite)
    ordered = [watch.BARS.index(bar) for _, bar in sorted(finite)]
    assert ordered == sorted(ordered)
    if len({value for value, _ in finite}) > 1:
        assert (ordered[0], ordered[-1]) == (0, 7)


def test_runs_appear_go_on_and_disappear(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    assert watcher.look() == []
    old = make_run(tmp_path, "old", day=20)
    live = make_run(tmp_path, "live", state="running", steps=50, day=10)
    assert live.acquire()
    write_json(live.progress, {"phase": "training", "step": 57, "max_steps": 100, "eta_s": 61.0})
    first, second = watcher.look()
    assert (first.name, first.state, first.step) == ("pretrain/live", "running", "57 of 100")
    assert (first.tokens_per_second, first.eta_s, len(first.losses)) == (1000.0, 61.0, 5)
    assert first.held_out and first.loss == first.losses[-1]
    assert (second.name, second.state, second.tokens_per_second) == ("pretrain/old", "finished", None)
    cells = [str(cell) for cell in first.cells()]
    assert cells[-2:] == ["1,000", "1:01"]
    write_json(live.progress, {"phase": "saving", "step": 57})
    assert watcher.look()[0].state == "running: saving"
    live.release()
    assert {glance.name: glance.state for glance in watcher.look()}["pretrain/live"] == "dead"
    for file in sorted(old.path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    old.path.rmdir()
    assert [glance.name for glance in watcher.look()] == ["pretrain/live"]
    assert set(watcher.tails) == {live.path}


class Ticks:
    """Stands in for time.sleep: changes the world at each tick, and presses Ctrl-C when nothing is left to do."""

    def __init__(self, *changes: Any):
        self.changes = list(changes)

    def __call__(self, seconds: float) -> None:
        if not self.changes:
            raise KeyboardInterrupt
        self.changes.pop(0)()


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_ends_with_ctrl_c_and_shows_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    make_run(tmp_path, "a")
    ticks = Ticks(lambda: make_run(tmp_path, "b"), lambda: None)
    monkeypatch.setattr(watch.time, "sleep", ticks)
    out = io.StringIO()
    screen = Console(file=out, force_terminal=terminal, width=200, highlight=False, markup=False, legacy_windows=False)
    assert watch.watch(Watcher(tmp_path), screen, interval_s=1.0, once=False) == 0
    text = out.getvalue()
    assert ticks.changes == []
    assert "pretrain/a" in text and "pretrain/b" in text and "█" in text
    if terminal:
        assert "Ctrl-C" in text and text.rstrip().endswith("\x1b[?25h")  # the cursor is back
    else:
        assert "\x1b" not in text and text.count("pretrain/a") == 1  # a run without news is not repeated


def test_ctrl_c_ends_the_command_with_0(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    command = [sys.executable, "-m", "trainyard", "runs", "watch", "--outputs", str(tmp_path), "--interval", "60"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def hear() -> None:  # where the tests run in the background, SIGINT is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=hear) as process:
        assert process.stdout is not None
        assert "pretrain/a  finished  step 100 of 100" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_once_prints_lines(tmp_path: Path) -> None:
    make_run(tmp_path, "a", final=math.nan)
    out = io.StringIO()
    assert watch.watch(Watcher(tmp_path), Console(file=out, width=30), interval_s=1.0, once=True) == 0
    (line,) = out.getvalue().splitlines()
    assert line == "pretrain/a  finished  step 100 of 100  loss nan  !!!!!!!!!!  held-out nan"
