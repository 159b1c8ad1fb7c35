"""A further process of ours that does one job of a run before its launch: it prepares data or converts a checkpoint."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

from trainyard.errors import FAILED, Ended
from trainyard.machine.processes import end_with_parent
from trainyard.machine.signals import StopSignals

POLL_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """How a helper ended: its exit code and what it wrote to standard output."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """The helper's answer.

        Raises:
            Ended: there is none.
        """
        if not self.output.strip():
            raise Ended(FAILED, f"a helper process ended without an answer (exit code {self.code})")
        return self.output.strip().splitlines()[-1]


def run_helper(
    command: Sequence[str], env: Mapping[str, str], stop: StopSignals, errors: IO[str] | None = None
) -> Outcome:
    """Runs a command to its end; a stop signal of the run ends it at once, and so does the end of this process.

    Args:
        errors: gets its standard error; None: the terminal does.
    """
    child = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        preexec_fn=partial(end_with_parent, signal.SIGKILL),
    )  # fmt: skip
    while child.poll() is None:
        if stop.count:
            child.terminate()
        time.sleep(POLL_S)
    assert child.stdout is not None
    return Outcome(child.returncode, child.stdout.read().decode())
