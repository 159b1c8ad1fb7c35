"""The process of a rank: its log, its signals and its last words."""

import faulthandler
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trainyard.checkpoint.directory import no_space
from trainyard.errors import FinalError, RollbackError
from trainyard.files import disk_is_full
from trainyard.machine import signals
from trainyard.machine.processes import follow_controller
from trainyard.rundir.directory import RunDir
from trainyard.rundir.memory import is_out_of_memory, needs_less
from trainyard.rundir.messages import LastWords, RankProcess
from trainyard.rundir.rank import Rank


@contextmanager
def rank_process(arguments: list[str]) -> Iterator[Rank]:
    """Yields the rank that this process is, and ends the process with the context.

    All output, also that of libraries in C, goes to logs/rank-N.log. An exception becomes the rank's LastWords, with
    the time at which it happened, and ends the process at once with exit code 1: a rank that waits in a destructor for
    its peers would keep the launch alive.

    Args:
        arguments: the run's config.yaml and, when it resumes, a checkpoint directory. RANK and WORLD_SIZE come from the
            environment, where DeepSpeed's launcher puts them.
    """
    run_dir = RunDir(Path(arguments[0]).parent)
    resume = Path(arguments[1]) if len(arguments) > 1 else None
    this = Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), run_dir, resume)
    log = run_dir.logs / f"rank-{this.rank}.log"
    process = RankProcess(this.rank, os.uname().nodename, os.getpid())
    try:
        _redirect(log)
        follow_controller()
        _note_stop_signals(this)
        process.write(run_dir)
        this.note(now=True)
        yield this
        process.remove(run_dir)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # everything is saved, and a library's thread may still abort an interpreter that shuts down
    except BaseException as error:  # SystemExit too: a library that calls sys.exit has failed
        _fail(this, error, log)


def _fail(this: Rank, error: BaseException, log: Path) -> NoReturn:
    """Writes the error to the log and as the last words, as far as the disk has room, and ends the process."""
    try:
        with suppress(OSError):
            traceback.print_exc()
        _last_words(this, error, log).write(this.run_dir)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
    finally:
        os._exit(1)


def _note_stop_signals(this: Rank) -> None:
    """From now on a signal to stop is only noted; the ranks leave together at the end of a step."""

    def note(number: int, frame: FrameType | None) -> None:
        this.stop_signalled = signal.Signals(number).name

    for number in signals.STOPPING:
        signal.signal(number, note)
    signals.let_through()


def _last_words(this: Rank, error: BaseException, log: Path) -> LastWords:
    is_full = disk_is_full(error) and not isinstance(error, FinalError)  # which has the sentence of its own disk
    text = no_space(this.run_dir.checkpoints, error) if is_full else f"{error}"
    if is_out_of_memory(error):
        text = f"out of memory while {this.progress.phase}: {needs_less(this.progress.phase)}. {text}"
    return LastWords(
        rank=this.rank,
        error=" ".join(f"{type(error).__name__}: {text}".split()),
        step=this.step,
        final=is_full or isinstance(error, FinalError),
        rollback=isinstance(error, RollbackError),
        time=time.time(),
        traceback="".join(traceback.format_exception(error, limit=-6)),
        log=str(log),
    )


def _redirect(log: Path) -> None:
    """Sends standard output and standard error to the log, beneath Python, and stacks of all threads on SIGUSR2."""
    stream = log.open("ab", buffering=0)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # the controller asks for the stacks of ranks that hang
    print(f"---- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()} on {socket.gethostname()}", flush=True)
