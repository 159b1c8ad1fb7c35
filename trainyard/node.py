"""One node's part of a launch over ssh, see trainyard.over_ssh: `python -m trainyard.node`, told by standard input.

The first line is what it must know, as JSON; the end of the input means that the controller is gone or wants the end.
Secrets of the environment come this way too, and so stand in no command line.
"""

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from trainyard.signals import StopSignals


def main(stop: StopSignals) -> int:
    """Starts this node's ranks and stays with them; 0 when they have ended in order, else 1."""
    from trainyard import runconfig
    from trainyard.attempt import Attempt
    from trainyard.devices import detect
    from trainyard.rundir import RunDir

    request: dict[str, Any] = json.loads(sys.stdin.readline())
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    run_dir = RunDir(Path(request["run"]))
    config = runconfig.load(run_dir.config)
    config.launch.hostfile = None
    for name in ("node_rank", "master_addr", "master_port"):
        setattr(config.launch, name, request[name])
    checkpoint = Path(request["checkpoint"]) if request["checkpoint"] else None
    attempt = Attempt(config, detect(), run_dir, checkpoint, stop, _say, leads=False)
    attempt.follow(lambda progress: None, over=_end_of_input().is_set)
    return 1 if attempt.code else 0


def _end_of_input() -> threading.Event:
    """Is set once there is no more to read."""
    ended = threading.Event()

    def read() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=read, daemon=True, name="follow-controller").start()
    return ended


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the connection is lost
        print(text, flush=True)


if __name__ == "__main__":
    with StopSignals() as signalled:
        code = main(signalled)
    os._exit(code)  # the thread that reads the input would hold the interpreter
