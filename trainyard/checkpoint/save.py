"""A save from the first byte to the manifest: the room it needs, its failures, and how long it takes."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
import transformers
from accelerate.utils import DeepSpeedSchedulerWrapper  # type: ignore[import-untyped]

from trainyard import __version__
from trainyard.checkpoint.convert import SCHEDULE
from trainyard.checkpoint.deepspeed_engine import in_background
from trainyard.checkpoint.directory import discard, lack_of_space, required_bytes, rotate
from trainyard.checkpoint.layout import PARAMETERS, Layout
from trainyard.checkpoint.manifest import FileEntry, Manifest, entries, files_of, unfinished
from trainyard.checkpoint.pretrained import is_adapter, save_pretrained, save_tensors
from trainyard.checkpoint.writer import BackgroundWriter
from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError
from trainyard.files import read_json, write_json
from trainyard.rundir.messages import Phase
from trainyard.rundir.rank import Rank

WRITTEN = "written_{}.json"
"""In an unfinished checkpoint: the entries of the files of a rank, once all of them are on the disk."""

SCALER = "scaler.pt"
"""In a checkpoint of DDP in float16: the loss scale, under the name by which the Trainer loads it."""

POLL_S = 0.02
"""Rank 0 looks for the other ranks' lists in this interval."""


@dataclass
class Saver:
    """Makes checkpoints of the files that the Trainer and DeepSpeed write, while the training goes on.

    Large files go through `writer`, in memory first. Once a rank's are on the disk it lists them in WRITTEN; rank 0
    waits for all lists and writes the manifest, which makes the directory a checkpoint.

    Attributes:
        stall_s: seconds for which the last save held the training up; None before the first.
        target: the directory of the save under way; None outside of `saving`.
    """

    directory: Path
    rank: Rank
    batch_layout: BatchLayout
    keep: int | None
    """Checkpoints that stay; None keeps all."""
    trainable: int
    """Trainable parameters, by which the size of the first checkpoint is estimated."""
    grace_period_s: float
    layout: Layout
    in_background: bool = True
    """False, or too little memory, holds the training up until the checkpoint is whole."""
    stall_s: float | None = None
    target: Path | None = None
    writer: BackgroundWriter = field(default_factory=BackgroundWriter)
    _last_target: Path | None = None

    @contextmanager
    def saving(self, step: int, best: Path | None) -> Iterator[Path]:
        """Collective. Yields the directory to write to, which becomes a checkpoint later; older ones may be deleted.

        Args:
            best: the checkpoint of the best evaluation, which stays; it may be the one that is written.

        Raises:
            FinalError: the disk is full. What was written is deleted, and the last checkpoint is untouched.
        """
        started = time.monotonic()
        target = self.directory / f"checkpoint-{step}"
        self.rank.note(now=True, phase=Phase.SAVING)
        self.wait()
        self._last_target = target
        needed = required_bytes(self.directory, self.trainable)
        if self.rank.is_first:
            discard(target)  # the rest of a save that was cut off, or a damaged checkpoint
            self._require_space(needed)
        dist.barrier()
        self.writer.begin()
        with self._explained():
            self.target = target
            try:
                yield target
            finally:
                self.target = None
        # Before the barrier, behind which the ranks list their files in files of their own.
        made = [name for name in files_of(target) if not Path(name).name.startswith(".")] if self.rank.is_first else []
        dist.barrier()
        self.writer.then(lambda: self._note_written(target))
        if self.rank.is_first:
            self.writer.then(lambda: self._finish(target, step, made, best, started))
        if not self.in_background or psutil.virtual_memory().available < 2 * needed:
            self.wait()
            dist.barrier()
        self.stall_s = time.monotonic() - started

    def save_model(self, directory: Path, model: Any, tensors: dict[str, torch.Tensor] | None) -> None:
        """Saves, on one rank, the model or its adapter for from_pretrained; in the background inside `saving`.

        Args:
            tensors: the state dict, where the model's own is divided among the ranks.
        """
        save_pretrained(model, directory, self.writer.save_tensors if self.target else save_tensors, tensors)

    def save_states(self, model: torch.nn.Module, optimizer: Any, scheduler: Any, engine: Any) -> None:
        """Collective, inside `saving`. Saves the optimizer and the schedule.

        Under DDP the parameters' names go beside them, in the optimizer's order: other ranks and stages need them.

        Args:
            engine: DeepSpeed's, which saves all states of the optimizer; None under DDP.
        """
        assert self.target is not None
        if engine is not None:
            with in_background(engine, self.writer):
                engine.save_checkpoint(str(self.target), exclude_frozen_parameters=is_adapter(model))
        elif self.rank.is_first:
            self.writer.save(optimizer.state_dict(), self.target / "optimizer.pt")
            names = {parameter: name for name, parameter in model.named_parameters()}
            ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            write_json(self.target / PARAMETERS, {"names": ordered})
        if self.rank.is_first and not isinstance(scheduler, DeepSpeedSchedulerWrapper):  # else it is in the states
            self.writer.save(scheduler.state_dict(), self.target / SCHEDULE)

    def save_scaler(self, scaler: torch.amp.GradScaler | None) -> None:
        """Saves, inside `saving`, the scale of a loss in float16; None where there is none, as under DeepSpeed."""
        assert self.target is not None
        if self.rank.is_first and scaler is not None:
            self.writer.save(scaler.state_dict(), self.target / SCALER)

    def save_randomness(self) -> None:
        """Saves, on every rank inside `saving`, its random state, as the Trainer and restore_randomness read it."""
        assert self.target is not None
        states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.random.get_rng_state_all()
        self.target.mkdir(parents=True, exist_ok=True)  # a rank may be here before rank 0 has made it
        alone, rank = self.batch_layout.world_size == 1, self.batch_layout.rank
        self.writer.save(states, self.target / ("rng_state.pth" if alone else f"rng_state_{rank}.pth"))

    def wait(self) -> None:
        """Returns when the last save is a checkpoint; raises the error of a save that failed."""
        with self._explained():
            self.writer.wait()

    def check(self) -> None:
        """Raises the error of the last save, if it has failed by now."""
        with self._explained():
            self.writer.check()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error into FinalError where the disk is full, and deletes the unfinished files."""
        try:
            yield
        except (OSError, RuntimeError):  # PyTorch has no error of its own for a full disk
            try:
                self._require_space(required_bytes(self.directory, self.trainable))
                raise
            finally:
                if self._last_target and unfinished(self._last_target):
                    shutil.rmtree(self._last_target, ignore_errors=True)

    def _require_space(self, needed: int) -> None:
        if problem := lack_of_space(self.directory, needed):
            raise FinalError(problem)

    def _note_written(self, target: Path) -> None:
        written = {str(file.relative_to(target)): asdict(entry) for file, entry in self.writer.entries.items()}
        write_json(target / WRITTEN.format(self.batch_layout.rank), written)

    def _finish(self, target: Path, step: int, made: Sequence[str], best: Path | None, started: float) -> None:
        """Waits for the lists of all ranks, writes the manifest and deletes old checkpoints. Runs in the thread.

        Raises:
            FileNotFoundError: a file of the checkpoint is gone, or the directory is.
        """
        markers = [target / WRITTEN.format(rank) for rank in range(self.batch_layout.world_size)]
        while not all(marker.exists() for marker in markers):
            if not target.is_dir():
                raise FileNotFoundError(f"{target} was deleted while it was written")
            time.sleep(POLL_S)
        written = {name: FileEntry(**entry) for marker in markers for name, entry in read_json(marker).items()}
        for marker in markers:
            marker.unlink()
        versions = {"trainyard": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
        Manifest(
            step=step,
            samples_seen=self.batch_layout.samples_before(step),
            world_size=self.batch_layout.world_size,
            zero_stage=self.layout.stage,
            layout=self.layout,
            versions=versions,
            files=entries(target, written, made),
        ).write(target)
        rotate(self.directory, self.keep, target, best)
        seconds = time.monotonic() - started
        self.rank.say(f"step {step}: checkpoint saved in {seconds:.1f} s")
        if seconds > self.grace_period_s / 2:
            self.rank.say(
                f"launch.grace_period_s={self.grace_period_s:g}: that may not be enough for a save in a preemption. "
                f"Allow {2 * seconds:.0f} s or more, if the scheduler does"
            )
