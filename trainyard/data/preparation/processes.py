"""The processes of a preparation on one machine: helpers that take parts of the same work."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from trainyard.config.stages import STAGES
from trainyard.data.preparation import division
from trainyard.data.preparation.request import DataRequest, Share
from trainyard.machine.processes import end_with_parent, python

MOST_PROCESSES = 16
"""Processes by default, at most: each takes half a gigabyte of memory."""

OVERRIDES = "TRAINYARD_OVERRIDES"
"""The variable with overrides that must not be on a command line, which everybody on the machine can read (JSON)."""


HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "2"}
"""Variables that glibc reads when a process starts, see mallopt(3). It then returns a block of 1 MiB or more as soon as
it is freed; without them this threshold grows with the blocks, and the peak of the memory with the corpus."""


def bound_heap() -> None:
    """Starts this command again with HEAP, unless it has these variables already; any other C library ignores them."""
    if not HEAP.keys() <= os.environ.keys():
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**HEAP, **os.environ})


@contextlib.contextmanager
def helpers(request: DataRequest, overrides: list[str], share: Share | None, processes: int | None) -> Iterator[None]:
    """Starts processes that take parts of the same work. They end with the block, and with this process.

    Args:
        overrides: of the command that prepares.
        share: the share of the work that they help with.
        processes: how many work in all, this one included; None: `worthwhile`.
    """
    cores = len(os.sched_getaffinity(0))
    processes = processes or worthwhile(request, cores)
    options = ["--helper", *(["--shard", f"{share.index}/{share.count}"] if share else [])]
    command, env = child(request.stage, overrides, os.environ | {"RAYON_NUM_THREADS": str(max(1, cores // processes))})
    end = partial(end_with_parent, signal.SIGKILL)
    started = [subprocess.Popen([*command, *options], env=env, preexec_fn=end) for _ in range(processes - 1)]
    try:
        yield
    finally:
        for helper in started:
            helper.terminate()
        for helper in started:
            helper.wait()


def child(stage: str, overrides: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a process that prepares, or helps to prepare."""
    further = {OVERRIDES: json.dumps(list(overrides))}
    return python("trainyard", "prepare", stage), {**HEAP, **env, **further}


def worthwhile(request: DataRequest, cores: int) -> int:
    """The number of processes by default, this one included: each costs its start-up and half a gigabyte."""
    stage = STAGES[request.stage]
    by_size = 1 + division.source_bytes(request) // stage.bytes_per_process
    most = min(by_size, cores // stage.cores_per_process, MOST_PROCESSES)
    return min(most, len(division.parts(request))) if most > 1 else 1
