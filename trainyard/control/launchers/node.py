"""One node's part of a launch over ssh, see launchers/ssh.py. It is told by standard input what to do.


The first line is what it must know, as JSON; further ones are signs of life; the end of the input means that the
controller is gone or wants the end.
Secrets of the environment come this way too, and so stand in no command line.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from trainyard.machine.signals import StopSignals

SILENCE_S = 60.0
"""Seconds without a sign of life after which the controller is taken for gone."""


def main(stop: StopSignals) -> int:
    """Starts this node's ranks and stays with them; 0 when they have ended in order, else 1."""
    from trainyard.config import saved
    from trainyard.control.attempt import Attempt
    from trainyard.machine.devices import detect
    from trainyard.rundir.directory import RunDir

    request: dict[str, Any] = json.loads(sys.stdin.readline())
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    run_dir = RunDir(Path(request["run"]))
    config = saved.load(run_dir.config)
    config.launch.hostfile = None
    for name in ("node_rank", "master_addr", "master_port"):
        setattr(config.launch, name, request[name])
    checkpoint = Path(request["checkpoint"]) if request["checkpoint"] else None
    attempt = Attempt(config, detect(), run_dir, checkpoint, stop, _say, leads=False)
    attempt.follow(lambda progress: None, over=Controller().is_gone)
    return 1 if attempt.code else 0


class Controller:
    """What the standard input tells of the controller: it speaks every few seconds, and the input ends with it."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._ended = False
        threading.Thread(target=self._listen, daemon=True, name="follow-controller").start()

    def is_gone(self) -> bool:
        """Has it ended, or been silent for so long that the network must be cut?"""
        return self._ended or time.monotonic() > self._heard + SILENCE_S

    def _listen(self) -> None:
        while sys.stdin.readline():
            self._heard = time.monotonic()
        self._ended = True


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the connection is lost
        print(text, flush=True)


if __name__ == "__main__":
    with StopSignals() as signalled:
        code = main(signalled)
    os._exit(code)  # the thread that reads the input would hold the interpreter
