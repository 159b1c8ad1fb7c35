"""trainyard.training.restoring."""

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
import transformers

from trainyard.checkpoint import directory
from trainyard.checkpoint.convert import SCHEDULE, convert
from trainyard.checkpoint.manifest import Manifest, verify
from trainyard.checkpoint.restore import (
    _innermost,
    _read,
    apply_settings,
    is_universal,
    load_buffers,
    load_states,
    restore_randomness,
    set_step_counters,
    settings_of,
)
from trainyard.checkpoint.save import Saver
from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError
from trainyard.rundir.rank import Rank


class Restoring(transformers.Trainer):
    """A Trainer that loads whatever the run left, with the settings that the command has now."""

    split: BatchLayout
    start_step: int
    worker: Rank
    saver: Saver

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if optimizer is None:  # it is the Trainer's own, and nothing has been loaded yet
            self._settings = settings_of(self.optimizer)
        return scheduler

    def _load_optimizer_and_scheduler(self, found: str | None) -> None:
        """Comes last: DeepSpeed has loaded its states, or the Trainer its weights."""
        super()._load_optimizer_and_scheduler(found)
        if found is None:
            return
        if is_universal(Path(found)):
            self._finish_universal(Path(found))
        apply_settings(self.optimizer, self.lr_scheduler, self._settings)

    def _finish_universal(self, found: Path) -> None:
        """What is still missing of a universal checkpoint: under DDP all states, under DeepSpeed the buffers."""
        if self.is_deepspeed_enabled:
            self._expect_universal(False)  # the next may be one of this run's own
            load_buffers(found, self.model)
        else:
            load_states(found, self.model, self.optimizer)
            self.lr_scheduler.load_state_dict(_read(found / SCHEDULE))
        set_step_counters(_innermost(self.optimizer))

    def _expect_universal(self, expected: bool) -> None:
        self.model_wrapped._config.load_universal_checkpoint = expected

    def _load_best_model(self) -> None:
        """The best checkpoint may be older than the last change of ranks, and need a conversion of its own."""
        best, layout = Path(self.state.best_model_checkpoint), self.saver.layout
        manifest = Manifest.read(best)
        if not layout.stage or (manifest and manifest.fits(layout, self.split.world_size)):
            super()._load_best_model()
            return
        self.worker.note(now=True, phase="converting the best checkpoint")
        target = self.worker.run_dir.converted / "best" / best.name
        if self.split.rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            self._require_convertible(best)
            convert(best, target, fp16=layout.precision == "fp16")
        dist.barrier()
        self._expect_universal(True)
        self.state.best_model_checkpoint = str(target)
        super()._load_best_model()
        self.state.best_model_checkpoint = str(best)
        self._expect_universal(False)

    def _require_convertible(self, best: Path) -> None:
        if reason := verify(best):
            raise FinalError(f"{best}: the best checkpoint cannot be loaded, {reason}; the last one is untouched")
        manifest = Manifest.read(best)
        assert manifest is not None  # it was verified
        what = f"the conversion of {best.name}"
        if problem := directory.lack_of_space(self.saver.directory, manifest.state_bytes(), what):
            raise FinalError(problem)

    def _load_rng_state(self, found: str | None) -> None:
        manifest = Manifest.read(Path(found)) if found else None
        if found is None or (manifest and manifest.world_size == self.split.world_size):
            super()._load_rng_state(found)
        else:
            restore_randomness(Path(found), self.split, seed=self.args.seed, step=self.start_step)
