"""What becomes of a process when the one that started it dies."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals) -> None:
    """In a new process: get this signal when the one that started it dies (Linux, prctl)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
