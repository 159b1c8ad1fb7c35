"""The signals that ask a run to save and leave.

A command imports this module before anything else, so it imports nothing heavy.
"""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Sent by schedulers, by Ctrl-C, and by Slurm's --signal."""


class StopSignals:
    """A context in which STOPPING and SIGHUP are counted and do not end the process.

    Attributes:
        count: signals so far.
        name: the name of the last signal, as SIGTERM; empty before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""

    def __enter__(self) -> "StopSignals":
        numbers = (*STOPPING, signal.SIGHUP)
        wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup stays nohup
        self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Processes that are started in this context leave STOPPING pending until they call `let_through`.

    DeepSpeed's launcher would die of such a signal, and abandon the ranks or give them half a minute. With the signals
    held back it waits for the ranks, which know how to stop; `pending` shows the signals that were sent to it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Lets signals that were held back by the parent reach this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def pending(pid: int) -> str | None:
    """The name of a stop signal that was sent to a process and held back; None without one (Linux, /proc)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    waiting = 0
    for mask in re.findall(r"^S[hi][dg]Pnd:\s*([0-9a-f]+)", status, re.MULTILINE):
        waiting |= int(mask, 16)
    return next((number.name for number in STOPPING if waiting >> (number - 1) & 1), None)
