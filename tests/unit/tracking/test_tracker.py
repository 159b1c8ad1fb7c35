"""The four calls of a tracker, and its errors in a line."""

import inspect

import pytest

from trainyard.tracking.swanlab import SwanLabRun
from trainyard.tracking.tracker import Tracker, complaint


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionError("the dashboard is down\nfor good"), "ConnectionError: the dashboard is down"),
        (ValueError(), "ValueError: ValueError()"),
    ],
)
def test_an_error_in_a_line(error: Exception, line: str) -> None:
    assert complaint(error) == line


def test_swanlab_offers_the_four_calls() -> None:
    calls = [name for name in vars(Tracker) if not name.startswith("_")]
    assert calls == ["open", "send", "show", "close"]
    for name in calls:
        offered, wanted = (inspect.signature(getattr(kind, name)).parameters for kind in (SwanLabRun, Tracker))
        assert list(offered) == list(wanted), name
