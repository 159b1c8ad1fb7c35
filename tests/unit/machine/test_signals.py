"""Signals that are held back from a launcher and seen from outside."""

import os
import signal
import subprocess
import sys
import time

from trainyard.machine import signals
from trainyard.machine.signals import StopSignals

WAITING = "import sys; print('ready', flush=True); sys.stdin.readline(); {}; print('alive', flush=True)"


def start(after: str) -> "subprocess.Popen[str]":
    """A process that says ready, waits for a line, does something and says alive."""
    with signals.held_back():
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING.format(after)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_launcher_does_not_die_of_a_stop_and_shows_it() -> None:
    process = start("pass")
    assert signals.pending(process.pid) is None
    process.send_signal(signal.SIGUSR1)
    assert signals.pending(process.pid) == "SIGUSR1"
    process.send_signal(signal.SIGTERM)
    assert signals.pending(process.pid) == "SIGTERM"
    assert process.communicate("go\n")[0] == "alive\n"
    assert process.returncode == 0
    assert signals.pending(process.pid) is None  # gone


def test_a_rank_lets_them_through() -> None:
    process = start("from trainyard.machine import signals; signals.let_through()")
    process.send_signal(signal.SIGTERM)
    assert process.communicate("go\n")[0] == ""
    assert process.returncode == -signal.SIGTERM


def test_this_process_gets_its_own() -> None:
    with signals.held_back():
        pass
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    with StopSignals() as stop:
        for count, number in enumerate((signal.SIGTERM, signal.SIGUSR1), 1):  # nohup has SIGINT ignored
            os.kill(os.getpid(), number)
            while stop.count < count:  # another thread of the tests' may have got it; Python calls the handler soon
                time.sleep(0.001)
            assert (stop.count, stop.name) == (count, number.name)
