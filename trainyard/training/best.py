"""The best checkpoint of a run: the model that a run with trainer.load_best_model_at_end leaves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerState

from trainyard.checkpoint.directory import step_of
from trainyard.checkpoint.manifest import is_whole
from trainyard.checkpoint.rank_state import BestState


@dataclass
class BestCheckpoint:
    """Finds the lowest value of a metric among the evaluations whose step has a checkpoint.

    The library takes the best evaluation. Where its step has no checkpoint, the library stays with an older best one,
    which may be worse than later checkpoints.
    """

    directory: Path
    """The checkpoints of the run."""
    metric: str | None
    """As evaluations name it, eval_loss; with None there is no best checkpoint."""
    state: BestState | None = None
    _evaluated: BestState | None = None
    """The last evaluation."""

    @property
    def step(self) -> int | None:
        """None while no step with an evaluation has a checkpoint."""
        return self.state.step if self.state else None

    @property
    def checkpoint(self) -> Path | None:
        """Its directory."""
        return self._of(self.state.step) if self.state else None

    def _of(self, step: int) -> Path:
        return self.directory / f"checkpoint-{step}"

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes note of an evaluation."""
        if self.metric is not None and math.isfinite(metrics[self.metric]):
            self._evaluated = BestState(step, metrics[self.metric])

    def saved(self, step: int) -> None:
        """Takes note of a checkpoint, which may be about to be written."""
        last = self._evaluated
        if last and last.step == step and (self.state is None or last.value < self.state.value):
            self.state = last

    def resumed(self, step: int) -> None:
        """Takes note that the last evaluation was that of the checkpoint from which the run has gone on.

        A run that was begun from another's checkpoint does not have it.
        """
        if is_whole(self._of(step)):
            self.saved(step)

    def restore(self, state: BestState | None, library: TrainerState) -> str:
        """Goes on from the states of a checkpoint. Returns the name of its best checkpoint if this run lacks it."""
        self.state = state or self._of_version_0_1(library)
        if self.checkpoint is None or is_whole(self.checkpoint):
            return ""
        lost, self.state = self.checkpoint.name, None
        return lost

    def _of_version_0_1(self, library: TrainerState) -> BestState | None:
        step = step_of(Path(library.best_model_checkpoint)) if library.best_model_checkpoint else None
        if step is None or self.metric is None:
            return None
        values = (row[self.metric] for row in library.log_history if row["step"] == step and self.metric in row)
        return BestState(step, next(values, library.best_metric))
