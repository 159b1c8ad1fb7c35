"""A node that follows its controller through standard input."""

import os
import time
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from trainyard.control.launchers import node
from trainyard.control.launchers.node import Controller


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[str]]:
    """The controller's end of a pipe whose other end is standard input."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as controller:
        monkeypatch.setattr("sys.stdin", os.fdopen(read))
        yield controller


def becomes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_a_controller_is_there_until_its_end_of_the_input_is_closed(speaks: IO[str]) -> None:
    controller = Controller()
    speaks.write("\n")
    speaks.flush()
    assert not controller.is_gone()
    speaks.close()
    assert becomes_true(controller.is_gone)


def test_a_controller_that_is_silent_for_long_is_gone_until_it_speaks(
    speaks: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller()
    assert not controller.is_gone()
    monkeypatch.setattr(node, "SILENCE_S", 0.5)
    assert becomes_true(controller.is_gone)
    monkeypatch.setattr(node, "SILENCE_S", 5.0)
    controller._heard = time.monotonic() - 6.0
    assert controller.is_gone()
    speaks.write("\n")
    speaks.flush()
    assert becomes_true(lambda: not controller.is_gone())
