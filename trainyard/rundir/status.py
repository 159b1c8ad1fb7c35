"""status.json: the state of a run as its controller knows it, kept true until the run ends."""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from trainyard.files import known
from trainyard.rundir.directory import RunDir


class State:
    """Values of Status.state."""

    PREPARING = "preparing"
    RUNNING = "running"
    FINISHED = "finished"
    PREEMPTED = "preempted"
    """Stopped on request; the same command resumes."""
    FAILED = "failed"


@dataclass
class Status:
    """A run, from its first start on. Everything that counts goes on over starts, but for restarts and rollbacks."""

    command: str = ""
    """The command that does the same again, secrets masked."""
    commit: str | None = None
    """The code's commit; None without a checkout."""
    state: str = ""
    """One of State."""
    exit_code: int | None = None
    """None while the run goes on."""
    step: int = 0
    max_steps: int | None = None
    world_size: int | None = None
    tokens_seen: int = 0
    restarts: int = 0
    """Launches after a failure, in this start."""
    rollbacks: int = 0
    """Launches after a spike of the loss, in this start."""
    resumed_from: list[int] = field(default_factory=list)
    """The step of every checkpoint that was resumed from, in order."""
    final: dict[str, float] = field(default_factory=dict)
    """Of a finished run: the value of every metric at that step, and the first of the losses as first_<name>."""
    seconds: float = 0.0
    """Wall clock of all starts together."""
    updated: str = ""
    """When this was written: ISO 8601, UTC."""
    model_step: int | None = None
    """Of a finished run: the step of the model that it leaves; None in a status of version 0.1."""

    @classmethod
    def read(cls, run_dir: RunDir) -> "Status":
        """The newest; Status() when there is none. Keys of another version are passed over.

        A value of the wrong type, null included, is passed over too: its field has the default.
        """
        defaults, values = dataclasses.asdict(cls()), known(cls, run_dir.read_status())
        return cls(**{name: value for name, value in values.items() if _is_like(defaults[name], value)})


def _is_like(default: Any, value: Any) -> bool:
    """Is a value of the type of its field? Of a field that may be None, every value is."""
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return default is None or isinstance(value, type(default))


class StatusFile:
    """Writes one start's status, with the time that all starts have taken."""

    def __init__(self, run_dir: RunDir, **facts: Any):
        """A new status of the run, with `facts`; step, tokens, seconds and resumes go on from the earlier starts."""
        self.run_dir = run_dir
        self._before = run_dir.read_status()
        self.was_damaged = run_dir.status.exists() and not self._before
        """Was there a status.json that cannot be read? Its times and counts begin anew."""
        self.status = dataclasses.replace(
            Status.read(run_dir), state=State.PREPARING, exit_code=None, restarts=0, rollbacks=0, model_step=None,
            final={}, **facts,
        )  # fmt: skip
        self._began = time.monotonic() - self.status.seconds

    def update(self, **news: Any) -> None:
        """Writes the status if that changes it."""
        changed = dataclasses.replace(self.status, **news)
        if changed != self.status:
            self.status = changed
            self.write()

    def write(self) -> None:
        """Writes the status with the time of day."""
        self.status.seconds = round(time.monotonic() - self._began, 1)
        self.status.updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.run_dir.write_status(dataclasses.asdict(self.status))

    def restore(self) -> None:
        """Writes the status that was there before this start; keeps the new one when there was none."""
        if self._before:
            self.run_dir.write_status(self._before)
        else:
            self.write()
