"""The signals that ask a run to save and leave, from wherever they come. Imports nothing heavy: it must be first."""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Counts signals that ask for a stop, and SIGHUP, instead of dying of them."""

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
    """Processes started meanwhile leave signals that ask for a stop pending, until they call `let_through`.

    DeepSpeed's launcher dies of them, and leaves the ranks or gives them half a minute. It shall wait for the ranks,
    which know how to stop; what it was sent is seen by `pending`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def pending(pid: int) -> str | None:
    """The name of a stop signal that was sent to a process and held back; None when there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    waiting = 0
    for mask in re.findall(r"^S[hi][dg]Pnd:\s*([0-9a-f]+)", status, re.MULTILINE):
        waiting |= int(mask, 16)
    return next((number.name for number in STOPPING if waiting >> (number - 1) & 1), None)
