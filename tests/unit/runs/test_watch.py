"""The view of runs that are written while it looks at them."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trainyard.files import write_json
from trainyard.runs import watch
from trainyard.runs.watch import Watcher, sparkline
from unit.run_dirs import make_run


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


def test_one_look_prints_a_line_per_run(tmp_path: Path) -> None:
    make_run(tmp_path, "a", final=math.nan)
    out = io.StringIO()
    assert watch.watch(Watcher(tmp_path), Console(file=out, width=30), interval_s=1.0, once=True) == 0
    (line,) = out.getvalue().splitlines()
    assert line == "pretrain/a  finished  step 100 of 100  loss nan  !!!!!!!!!!  held-out nan"
