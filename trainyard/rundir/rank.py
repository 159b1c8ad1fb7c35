"""A rank's side of the run directory: what it was asked, and what it says to the controller."""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Phase, Progress, Stop

PROGRESS_INTERVAL_S = 0.5
"""Seconds, at least, between two writes of progress.json."""


@dataclass
class Rank:
    """One rank of a run, known before anything heavy is imported."""

    rank: int
    world_size: int
    run_dir: RunDir
    resume: Path | None
    """The checkpoint to go on from; None to begin from the model."""
    stop_signalled: str = ""
    """The name of a signal that asked this rank to stop; empty otherwise."""
    step: int | None = None
    """The last step that was finished; None before the first."""
    progress: Progress = field(default_factory=lambda: Progress(Phase.STARTING))
    _written: float = 0.0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def resume_step(self) -> int:
        """The step of the checkpoint to go on from; 0 without one."""
        return 0 if self.resume is None else int(self.resume.name.rpartition("-")[2])

    def say(self, text: str) -> None:
        """Writes lines to this rank's log; those of rank 0 are shown on the controller's screen too."""
        print(text)
        if self.is_first:
            with self.run_dir.console.open("a", encoding="utf-8") as stream:
                stream.write(text + "\n")

    def note(self, now: bool = False, **progress: Any) -> None:
        """Updates fields of Progress. Rank 0 writes them, at most every PROGRESS_INTERVAL_S unless `now`."""
        self.progress = dataclasses.replace(self.progress, **progress)
        if self.is_first and (now or time.monotonic() - self._written > PROGRESS_INTERVAL_S):
            self.progress.write(self.run_dir)
            self._written = time.monotonic()

    def wants_to_stop(self) -> bool:
        """Did this rank get a signal, or (asked by rank 0) does the controller want the run to stop?"""
        return bool(self.stop_signalled) or (self.is_first and Stop.read(self.run_dir) is not None)
