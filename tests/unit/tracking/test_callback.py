"""A tracker that works, one that fails and one that hangs, behind the callback."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.tracking import callback
from trainyard.tracking.callback import TrackerCallback


class Fake:
    """Notes its calls; `failing` names the one that raises, `hanging` the one that never returns in time."""

    name = "Fake"

    def __init__(self, failing: str = "", hanging: str = ""):
        self.failing, self.hanging, self.released = failing, hanging, threading.Event()
        self.calls: list[tuple[Any, ...]] = []

    def _call(self, what: str, *given: Any) -> None:
        if what == self.hanging:
            self.released.wait(30)
        if what == self.failing:
            raise ConnectionError("the dashboard is down\nfor good")
        self.calls.append((what, *given))

    def open(self, rows: Any, samples: Any) -> None:
        self._call("open", rows, samples)

    def send(self, step: int, values: dict[str, Any]) -> None:
        self._call("send", step, values)

    def show(self, samples: Any) -> None:
        self._call("show", samples)

    def close(self) -> None:
        self._call("close")


def follow(fake: Fake) -> list[str]:
    """A run of two lines and an answer; what is said of the tracker."""
    said: list[str] = []
    tracker = TrackerCallback(fake, lambda: [{"step": 1}], said.append)
    tracker.samples = [{"step": 0}]
    for step in (2, 3):
        state: Any = SimpleNamespace(global_step=step)
        tracker.on_log(None, state, None, logs={"loss": 0.5})  # type: ignore[arg-type]
    tracker.on_log(None, state, None, logs={"train_runtime": 1.0, "train_loss": 2.0})  # type: ignore[arg-type]
    tracker.show([])
    tracker.show([{"step": 3}])
    tracker.finish()
    return said


def test_the_tracker_is_opened_with_the_first_line_and_gets_all_in_order() -> None:
    fake = Fake()
    assert follow(fake) == []
    assert fake.calls == [
        ("open", [{"step": 1}], [{"step": 0}]),
        ("send", 2, {"loss": 0.5}),
        ("send", 3, {"loss": 0.5}),
        ("show", [{"step": 3}]),
        ("close",),
    ]


@pytest.mark.parametrize(
    ("failing", "what", "calls"), [("open", "start", 0), ("send", "log", 1), ("show", "log", 3), ("close", "finish", 4)]
)
def test_a_tracker_that_fails_is_left_out_and_named_once(failing: str, what: str, calls: int) -> None:
    fake = Fake(failing)
    assert follow(fake) == [f"tracking is off: Fake could not {what}: ConnectionError: the dashboard is down"]
    assert len(fake.calls) == calls


def test_the_end_of_a_run_waits_a_while_for_a_tracker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "PATIENCE_S", 0.1)
    fake = Fake(hanging="send")
    assert follow(fake) == ["tracking is off: Fake has not answered for 0.1 s"]
    fake.released.set()


def test_a_tracker_that_falls_behind_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "WAITING", 1)
    fake = Fake(hanging="open")
    assert follow(fake) == ["tracking is off: Fake is 1 lines behind"]
    fake.released.set()


def test_a_run_without_a_line_opens_nothing() -> None:
    fake = Fake()
    TrackerCallback(fake, lambda: [], pytest.fail).finish()
    assert fake.calls == []
