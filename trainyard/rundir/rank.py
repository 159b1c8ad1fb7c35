"""trainyard.rundir.rank."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard.files import write_json
from trainyard.rundir.directory import RunDir

PROGRESS_INTERVAL_S = 0.5
"""Least time between two writes of progress.json."""


@dataclass
class Rank:
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
