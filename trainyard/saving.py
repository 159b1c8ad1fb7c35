"""A save from the first byte to the manifest: room for it, what becomes of one that fails, how long it takes."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers

from trainyard import __version__, checkpoint
from trainyard.conversion import PARAMETERS
from trainyard.data.loader import Split
from trainyard.rundir import read_json, write_json
from trainyard.worker import FinalError, Worker

WINDOW = "trainer_window_{}.json"
"""In a checkpoint, for each rank: the loss that is not logged yet, and whether an evaluation was left out."""


@dataclass
class Saver:
    """Makes checkpoints of what the Trainer and DeepSpeed write.

    Attributes:
        seconds: that the last save took; None before the first.
    """

    directory: Path
    worker: Worker
    split: Split
    keep: int | None
    """Checkpoints that stay; None: all."""
    trainable: int
    """Parameters, by which the room for the first checkpoint is estimated."""
    grace_period_s: float
    layout: dict[str, Any] | None
    """See trainyard.zero.layout."""
    seconds: float | None = None

    @contextmanager
    def saving(self, step: int, best: Callable[[], str | None]) -> Iterator[Path]:
        """Yields the directory to write to, on every rank; afterwards it is a checkpoint, and older ones may go.

        Args:
            best: the checkpoint of the best evaluation, which is never deleted; asked once the save is done.

        Raises:
            FinalError: the disk is full. What was written is deleted, and the last checkpoint is untouched.
        """
        started = time.monotonic()
        target = self.directory / f"checkpoint-{step}"
        self.worker.note(now=True, phase="saving a checkpoint")
        if self.worker.is_first:
            checkpoint.discard(target)  # what a save that was cut off, or a damaged one, left at this step
            self._require_space()
        dist.barrier()
        try:
            yield target
        except (OSError, RuntimeError):  # PyTorch has no error of its own for a full disk
            try:
                self._require_space()
                raise
            finally:
                shutil.rmtree(target, ignore_errors=True)
        dist.barrier()
        if self.worker.is_first:
            self._finish(target, step, best())
        dist.barrier()
        first, self.seconds = self.seconds is None, time.monotonic() - started
        if first and self.seconds > self.grace_period_s / 2:
            self.worker.say(
                f"a save takes {self.seconds:.0f} s and launch.grace_period_s={self.grace_period_s:g}: that may not be "
                f"enough in a preemption. Allow {2 * self.seconds:.0f} s or more, if the scheduler does"
            )

    def _require_space(self) -> None:
        needed = checkpoint.required_bytes(self.directory, self.trainable)
        if problem := checkpoint.lack_of_space(self.directory, needed):
            raise FinalError(problem)

    def _finish(self, target: Path, step: int, best: str | None) -> None:
        (target / "training_args.bin").unlink(missing_ok=True)  # a pickle that runs code and that nothing reads
        versions = {"trainyard": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
        checkpoint.write_manifest(
            target,
            step=step,
            samples_seen=step * self.split.global_batch,
            world_size=self.split.world_size,
            zero_stage=self.layout["stage"] if self.layout else 0,
            layout=self.layout,
            versions=versions,
        )
        checkpoint.rotate(self.directory, self.keep, protect=[Path(best)] if best else [])


def write_names(target: Path, model: torch.nn.Module, optimizer: Any) -> None:
    """The names of the parameters in the optimizer's order, by which another world size or ZeRO stage finds them."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    write_json(target / PARAMETERS, {"names": ordered})


def write_window(target: Path, rank: int, **values: Any) -> None:
    """What a rank has summed up since the last line of metrics."""
    write_json(target / WINDOW.format(rank), values)


def read_window(found: Path, split: Split) -> dict[str, Any]:
    """This rank's part of a checkpoint's window; the mean over all where another number of ranks has written it."""
    windows = [read_json(file) for file in sorted(found.glob(WINDOW.format("*")))]
    if len(windows) == split.world_size:
        return read_json(found / WINDOW.format(split.rank))
    if not windows:
        return {}
    return windows[0] | {"loss": sum(window["loss"] for window in windows) / len(windows)}
