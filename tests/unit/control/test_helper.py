import os
import subprocess
import sys
import threading
import time

import psutil
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


CONTROLLER = """
import sys
from trainyard.control.helper import run_helper
from trainyard.machine.signals import StopSignals
run_helper(["sh", "-c", "echo $$ >&2; exec sleep 60"], {"PATH": "/usr/bin:/bin"}, StopSignals())
"""


def test_a_helper_ends_with_a_controller_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", CONTROLLER], stderr=subprocess.PIPE, text=True) as controller:
        assert controller.stderr is not None
        helper = psutil.Process(int(controller.stderr.readline()))
        controller.kill()
        assert controller.stderr.read() == ""  # the helper had it open, too
    psutil.wait_procs([helper], timeout=10)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
