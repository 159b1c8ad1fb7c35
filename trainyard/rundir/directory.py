"""A run's directory: where its files lie, who owns it, what state it is in."""

import contextlib
from pathlib import Path
from typing import Any

from trainyard.config.schema import Config
from trainyard.files import PATIENCE_S, lock_owner, read_json, this_process, try_lock, write_json


def run_path(config: Config) -> Path:
    """`<outputs>/<stage>/<run.name>`, or `<outputs>/<stage>/sweeps/<run.sweep>/<run.name>` for a point of a sweep."""
    stage = Path(config.paths.outputs) / config.stage
    return (stage / "sweeps" / config.run.sweep if config.run.sweep else stage) / str(config.run.name)


class RunDir:
    """Paths of one run; see run_path."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.status = path / "status.json"
        self.progress = path / "progress.json"
        self.metrics = path / "metrics.jsonl"
        self.lead = path / "lead.json"
        """The launch that is on, for controllers on further nodes; see trainyard.control.follower."""
        self.samples = path / "samples.jsonl"
        self.example = path / "example.txt"
        """Fine-tuning: the first training sequence as text, what is learned between ⟦ and ⟧."""
        self.tracking = path / "tracking.json"
        """By which the tracker knows the run at every start; see trainyard.tracking.swanlab."""
        self.spikes = path / "spikes.jsonl"
        self.skipped = path / "skipped.json"
        self.logs = path / "logs"
        self.console = self.logs / "console.log"
        self.launcher_log = self.logs / "launcher.log"
        self.stop = path / "stop"
        """Its presence asks the ranks to save and leave; a file, so that it reaches every node."""
        self.checkpoints = path / "checkpoints"
        self.converted = path / "converted"
        """For as long as it is needed: a checkpoint made fit for another number of ranks or another ZeRO stage."""
        self.model = path / "model"
        self.deepspeed = path / "deepspeed.json"
        self._lock_file = path / ".lock"
        self._lock = contextlib.ExitStack()

    def holder(self) -> str | None:
        """Who runs in this directory now, as `pid 123 on host`; None when nobody does. Touches nothing."""
        return lock_owner(self._lock_file)

    def acquire(self) -> bool:
        """Takes the directory for this process until it ends; False when another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            mine = stack.enter_context(try_lock(self._lock_file, this_process(), patience_s=PATIENCE_S))
            if mine:
                self._lock = stack.pop_all()
        return mine

    def release(self) -> None:
        """Gives the directory up; without effect when this process has not acquired it."""
        self._lock.close()

    def read_status(self) -> dict[str, Any]:
        return read_json(self.status)

    def write_status(self, status: dict[str, Any]) -> None:
        write_json(self.status, status)


def unfit(name: str) -> str | None:
    """Why a name is none for a directory of a run or a sweep."""
    if name and "/" not in name and not name.startswith(".") and len(name.encode()) <= 200:
        return None
    return "names a directory, so it must not be empty, start with a dot, contain / or be longer than 200 bytes"
