"""Processes of ours: how they are started, and that they do not outlive the process that started them."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil

from trainyard import ROOT

START = str(ROOT / "trainyard" / "start.py")
"""The program that runs a module in surroundings of ours."""

_PR_SET_PDEATHSIG = 1


def python(module: str, *words: str) -> list[str]:
    """The command line that runs a module as `python -m` does, wherever it is started: see trainyard.start."""
    return [sys.executable, START, module, *words]


def end_with_parent(number: signal.Signals) -> None:
    """In a new process: has the kernel send this signal when the parent dies (prctl, Linux only)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def session(leader: int) -> list[psutil.Process]:
    """All live processes of the session that process `leader` leads, orphans included."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


def follow_controller() -> None:
    """In a rank: ends this process when the controller on its host is gone, so that no orphan holds a device.

    A thread looks once a second. TRAINYARD_CONTROLLER names the controller as `host pid`.
    """
    host, _, pid = os.environ.get("TRAINYARD_CONTROLLER", "").partition(" ")
    if host != socket.gethostname():
        return

    def watch() -> None:
        while Path(f"/proc/{pid}").exists() or not Path("/proc").exists():
            time.sleep(1.0)
        with contextlib.suppress(OSError):
            print("the controller is gone; leaving", flush=True)
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process().children(recursive=True):  # data workers, and compilers of a build
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="follow-controller").start()
