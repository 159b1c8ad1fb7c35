import os
import sys
import threading
import time

from trainyard.control.helper import run_helper
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
