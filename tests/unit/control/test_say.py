"""What the controller prints, and where."""

import sys

import pytest

from trainyard.control.say import refuse, say
from trainyard.errors import WRONG

Printed = pytest.CaptureFixture[str]


def test_what_is_wrong_goes_to_standard_error(capsys: Printed) -> None:
    say("step 3")
    say("no room", wrong=True)
    assert capsys.readouterr() == ("step 3\n", "no room\n")


def test_a_reader_that_is_gone_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        tried = 0

        def write(self, text: str) -> int:
            self.tried += 1
            raise BrokenPipeError

    closed = Closed()
    monkeypatch.setattr(sys, "stdout", closed)
    say("step 3")
    assert closed.tried == 1


def test_every_mistake_has_a_line_of_its_own(capsys: Printed) -> None:
    assert refuse(["data.learn=none: no", "trainer.max_steps=0: no"]) == WRONG == 2
    assert capsys.readouterr() == ("", "error: data.learn=none: no\nerror: trainer.max_steps=0: no\n")
