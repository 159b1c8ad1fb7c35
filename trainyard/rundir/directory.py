"""A run's directory: where its files lie, which process owns it, and its status."""

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
    """The paths of one run, and the lock that its controller holds. Nothing is made or read by the constructor."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.status = path / "status.json"
        self.progress = path / "progress.json"
        self.metrics = path / "metrics.jsonl"
        self.lead = path / "lead.json"
        """The launch that is on, for controllers on further nodes: messages.Lead."""
        self.samples = path / "samples.jsonl"
        self.example = path / "example.txt"
        """Fine-tuning: the first training sequence as text, with the learned parts between ⟦ and ⟧."""
        self.tracking = path / "tracking.json"
        """The id by which the tracker knows the run again at every start: trainyard.tracking.swanlab."""
        self.spikes = path / "spikes.jsonl"
        self.skipped = path / "skipped.json"
        self.logs = path / "logs"
        self.console = self.logs / "console.log"
        self.launcher_log = self.logs / "launcher.log"
        self.trace = self.logs / "trace.json.gz"
        """With run.profile_steps: what torch.profiler saw of these steps, for https://ui.perfetto.dev."""
        self.stop = path / "stop"
        """Its presence asks the ranks to save and leave: messages.Stop."""
        self.checkpoints = path / "checkpoints"
        self.converted = path / "converted"
        """A checkpoint made fit for another number of ranks or another ZeRO stage, until all ranks have loaded it."""
        self.model = path / "model"
        self.deepspeed = path / "deepspeed.json"
        self._lock_file = path / ".lock"
        self._lock = contextlib.ExitStack()

    def holder(self) -> str | None:
        """The process that runs in this directory now, as `pid 123 on host`; None without one. Changes nothing."""
        return lock_owner(self._lock_file)

    def acquire(self) -> bool:
        """Makes the directory and takes it for this process until that ends; False when another process has it."""
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
        """The content of status.json; empty when there is none."""
        return read_json(self.status)

    def write_status(self, status: dict[str, Any]) -> None:
        """Replaces status.json."""
        write_json(self.status, status)


def unfit(name: str) -> str | None:
    """Why a name cannot name the directory of a run or a sweep; None when it can."""
    if name and "/" not in name and not name.startswith(".") and len(name.encode()) <= 200:
        return None
    return "names a directory, so it must not be empty, start with a dot, contain / or be longer than 200 bytes"
