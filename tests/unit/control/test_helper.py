import os
import sys
import threading
import time

import pytest

from trainyard.control.helper import Outcome, run_helper
from trainyard.errors import FAILED, Ended
from trainyard.machine.signals import StopSignals


def test_a_helper_gives_its_code_and_its_output() -> None:
    code = "import os; print('one'); print(os.environ['WHAT']); raise SystemExit(2)"
    outcome = run_helper([sys.executable, "-c", code], {**os.environ, "WHAT": "ü"}, StopSignals())
    assert (outcome.code, outcome.output, outcome.last_line) == (2, "one\nü\n", "ü")


def test_a_stop_ends_a_helper() -> None:
    stop = StopSignals()
    threading.Timer(0.2, lambda: setattr(stop, "count", 1)).start()
    started = time.monotonic()
    outcome = run_helper(["sleep", "60"], os.environ, stop)
    assert outcome.code == -15 and time.monotonic() - started < 30


@pytest.mark.parametrize("output", ["", "\n"])
def test_a_helper_without_an_answer_ends_the_run_with_a_sentence(output: str) -> None:
    with pytest.raises(Ended) as ended:
        _ = Outcome(0, output).last_line
    assert (ended.value.code, ended.value.message) == (FAILED, "a helper process ended without an answer (exit code 0)")
