"""Loading a checkpoint that other ranks wrote, under another ZeRO stage, with the settings that the command has now."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist

from trainyard import compat
from trainyard.checkpoint.convert import SCHEDULE, convert
from trainyard.checkpoint.directory import lack_of_space
from trainyard.checkpoint.manifest import Manifest, verify
from trainyard.checkpoint.restore import (
    Settings,
    apply_settings,
    innermost,
    is_universal,
    load_buffers,
    load_states,
    read_states,
    restore_randomness,
    set_step_counters,
    settings_of,
)
from trainyard.checkpoint.save import Saver
from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError
from trainyard.rundir.messages import Phase
from trainyard.rundir.rank import Rank


class Restorer:
    """Completes what the Trainer and DeepSpeed load.

    A checkpoint of another number of ranks or another stage was converted to a universal one before the launch; both
    libraries load such a checkpoint only in part.
    """

    def __init__(self, rank: Rank, batch_layout: BatchLayout, saver: Saver):
        """`saver` knows where checkpoints lie, and in which layout this run writes them."""
        self.rank, self.batch_layout, self.saver = rank, batch_layout, saver
        self._settings: Settings = []

    def remember_settings(self, optimizer: Any) -> None:
        """Keeps learning rate, weight decay and the like of a new optimizer, which a checkpoint is about to replace."""
        self._settings = settings_of(optimizer)

    def finish(
        self, found: Path, model: Any, optimizer: Any, scheduler: Any, engine: Any
    ) -> tuple[float, float] | None:
        """Loads the states of a universal checkpoint that are still missing, and applies the settings of this command.

        Args:
            found: the checkpoint, from which the Trainer and DeepSpeed have loaded.
            engine: DeepSpeed's; None under DDP, where all states are missing. Under DeepSpeed only buffers are.

        Returns:
            The next step's learning rate as the checkpoint has it, and as this command has it; None if they are equal.
        """
        if is_universal(found):
            if engine is not None:
                compat.expect_universal_checkpoint(engine, False)  # the next checkpoint may be this run's own
                load_buffers(found, model)
            else:
                load_states(found, model, optimizer)
                scheduler.load_state_dict(read_states(found / SCHEDULE))
            set_step_counters(innermost(optimizer))
        return apply_settings(optimizer, scheduler, self._settings)

    def restore_randomness(self, found: Path, seed: int) -> bool:
        """Restores the random state of a checkpoint of another number of ranks; False leaves it to the Trainer."""
        manifest = Manifest.read(found)
        if manifest and manifest.world_size == self.batch_layout.world_size:
            return False
        restore_randomness(found, self.batch_layout, seed=seed, step=self.rank.resume_step)
        return True

    @contextmanager
    def loadable(self, best: Path, engine: Any) -> Iterator[Path]:
        """Collective. Yields a directory with the states of the best checkpoint, which these ranks can load.

        The checkpoint may be older than the last change of ranks, and need a conversion of its own.

        Raises:
            FinalError: on rank 0, when the checkpoint is damaged or there is no room for its conversion.
        """
        if self.rank.is_first and (reason := verify(best)):
            raise FinalError(f"{best}: the best checkpoint cannot be loaded, {reason}; the last one is untouched")
        dist.barrier()
        layout, manifest = self.saver.layout, Manifest.read(best)
        if not layout.stage or (manifest and manifest.fits(layout, self.batch_layout.world_size)):
            yield best
            return
        self.rank.note(now=True, phase=Phase.CONVERTING)
        target = self.rank.run_dir.converted / "best" / best.name
        if self.rank.is_first:
            shutil.rmtree(target, ignore_errors=True)
            self._require_room(best)
            convert(best, target, fp16=layout.precision == "fp16")
        dist.barrier()
        compat.expect_universal_checkpoint(engine, True)
        yield target
        compat.expect_universal_checkpoint(engine, False)

    def _require_room(self, best: Path) -> None:
        manifest = Manifest.read(best)
        assert manifest is not None  # it was verified
        what = f"the conversion of {best.name}"
        if problem := lack_of_space(self.saver.directory, manifest.state_bytes(), what):
            raise FinalError(problem)
