"""One rank's process: its log, its signals, its last words, and rank 0's voice on the controller's screen."""

import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from trainyard import signals
from trainyard.rundir import RunDir, write_json

PROGRESS_INTERVAL_S = 0.5
"""Least time between two writes of progress.json."""


class FinalError(Exception):
    """A failure that another start would meet again."""


class RollbackError(Exception):
    """No failure: all ranks leave together, so that the run goes on from its newest checkpoint in another way."""


@dataclass
class Worker:
    """What a rank knows before anything heavy is imported."""

    rank: int
    world_size: int
    run_dir: RunDir
    resume: Path | None
    stop_signalled: str = ""
    """The name of a signal that asked this rank to stop."""
    step: int | None = None
    """The last step that was finished; None before the first."""
    progress: dict[str, Any] = field(default_factory=lambda: {"phase": "starting"})
    _written: float = 0.0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def resume_step(self) -> int:
        return 0 if self.resume is None else int(self.resume.name.rpartition("-")[2])

    def say(self, text: str) -> None:
        """Shows lines on the controller's screen; rank 0 only."""
        print(text)  # into this rank's log
        if self.is_first:
            with self.run_dir.console.open("a", encoding="utf-8") as stream:
                stream.write(text + "\n")

    def note(self, now: bool = False, **progress: Any) -> None:
        """Updates progress.json, at most every PROGRESS_INTERVAL_S unless it must be `now`; rank 0 only."""
        self.progress.update(progress)
        if self.is_first and (now or time.monotonic() - self._written > PROGRESS_INTERVAL_S):
            write_json(self.run_dir.progress, self.progress)
            self._written = time.monotonic()

    def wants_to_stop(self) -> bool:
        """Was this rank signalled, or (asked by rank 0) does the controller want the run to stop?"""
        return bool(self.stop_signalled) or (self.is_first and self.run_dir.stop.exists())


@contextmanager
def worker(arguments: list[str]) -> Iterator[Worker]:
    """Runs a rank: `arguments` are the run's config.yaml and, when it resumes, a checkpoint directory.

    All output, that of libraries in C too, goes to logs/rank-N.log. An exception is written to logs/rank-N.error.json,
    with the time at which it happened, and ends the process at once: a rank that waits in a destructor for its peers
    would keep the launch alive.
    """
    run_dir = RunDir(Path(arguments[0]).parent)
    resume = Path(arguments[1]) if len(arguments) > 1 else None
    this = Worker(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), run_dir, resume)
    log = run_dir.logs / f"rank-{this.rank}.log"
    _redirect(log)
    follow_controller()

    def note_stop(number: int, frame: FrameType | None) -> None:
        this.stop_signalled = signal.Signals(number).name

    for number in signals.STOPPING:
        signal.signal(number, note_stop)
    signals.let_through()
    pid = run_dir.logs / f"rank-{this.rank}.pid"
    pid.write_text(f"{os.uname().nodename} {os.getpid()}", encoding="utf-8")
    try:
        this.note(now=True)
        yield this
        pid.unlink()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # all is saved; on the way out of the interpreter a library's thread may still abort the process
    except BaseException as error:  # SystemExit too: a library that calls sys.exit has failed
        traceback.print_exc()
        last_words = {
            "rank": this.rank,
            "step": this.step,
            "final": isinstance(error, FinalError),
            "rollback": isinstance(error, RollbackError),
            "time": time.time(),
            "error": " ".join(f"{type(error).__name__}: {error}".split()),  # one line
            "traceback": "".join(traceback.format_exception(error, limit=-6)),
            "log": str(log),
        }
        (run_dir.logs / f"rank-{this.rank}.error.json").write_text(json.dumps(last_words), encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _redirect(log: Path) -> None:
    stream = log.open("ab", buffering=0)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # the controller asks for the stacks of ranks that hang
    print(f"---- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()} on {socket.gethostname()}", flush=True)


def follow_controller() -> None:
    """Leaves when the controller on this host is gone: a rank without one would hold its device for ever."""
    host, _, pid = os.environ.get("TRAINYARD_CONTROLLER", "").partition(" ")
    if host != socket.gethostname():
        return

    def watch() -> None:
        while Path(f"/proc/{pid}").exists() or not Path("/proc").exists():
            time.sleep(1.0)
        print("the controller is gone; leaving", flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="follow-controller").start()
