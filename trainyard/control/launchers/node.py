"""One node's part of a launch over ssh: the module trainyard.control.launchers.node, started by launchers/ssh.py.

Standard input tells it what to do. The first line is a NodeRequest; further lines are signs of life; the end of the
input means that the controller is gone or ends the launch.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

from trainyard.machine.signals import StopSignals

SILENCE_S = 60.0
"""Seconds without a sign of life after which the controller counts as gone."""


def main(stop: StopSignals) -> int:
    """Starts this node's ranks and stays with them; 0 when they have ended in order, else 1."""
    from trainyard.config import saved
    from trainyard.control.attempt import Attempt
    from trainyard.control.launchers.node_request import NodeRequest
    from trainyard.machine.devices import detect
    from trainyard.rundir.directory import RunDir

    request = NodeRequest.parse(sys.stdin.readline())
    os.environ.update(request.environment)
    os.chdir(request.directory)
    run_dir = RunDir(Path(request.run))
    config = saved.load(run_dir.config)
    config.launch.hostfile = None
    config.launch.node_rank = request.node_rank
    config.launch.master_addr, config.launch.master_port = request.master_addr, request.master_port
    checkpoint = Path(request.checkpoint) if request.checkpoint else None
    attempt = Attempt(config, detect(), run_dir, checkpoint, stop, _say, leads=False)
    attempt.follow(lambda progress: None, over=Controller().is_gone)
    return 1 if attempt.code else 0


class Controller:
    """The controller at the other end of standard input: it sends a line every few seconds until it ends."""

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
