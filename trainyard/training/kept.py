"""What the objects of a Trainer keep in a checkpoint, beside the files of the library: gathered and given back."""

from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerState

from trainyard.checkpoint.rank_state import RankState, ScheduleState, read_rank_state
from trainyard.data.batches.loader import BatchLayout
from trainyard.rundir.rank import Rank
from trainyard.training.best import BestCheckpoint
from trainyard.training.callbacks.order import Callbacks


@dataclass(frozen=True)
class Kept:
    """The objects of one rank by which a resumed run logs, evaluates and judges as if it had never ended."""

    rank: Rank
    batch_layout: BatchLayout
    callbacks: Callbacks
    best: BestCheckpoint
    schedule: ScheduleState
    schedule_before: ScheduleState | None
    """That of the checkpoint."""

    def write(self, checkpoint: Path, step: int, *, loss: float, last_logged: int) -> None:
        """Writes this rank's file into a checkpoint of a step.

        Args:
            loss: the sum over the steps since the last line of metrics.
            last_logged: the step of that line.
        """
        samples = self.callbacks.bad_steps.samples
        RankState(
            loss=loss,
            last_logged=last_logged,
            evaluation_due=self.callbacks.stop.evaluation_due,
            bad_steps=self.callbacks.bad_steps.state(),
            spikes=self.callbacks.spikes.state(),
            best=self.best.state,
            tokens_seen=samples.tokens_seen(step),
            schedule=self.schedule,
            skipped=samples.skipped,
        ).write(checkpoint, self.batch_layout.rank)

    def restore(self, library: TrainerState) -> RankState | None:
        """Gives the objects their state of the checkpoint that the run goes on from; None without that.

        Args:
            library: the library's own state of that checkpoint, completed in place.
        """
        state = read_rank_state(self.rank.resume, self.batch_layout) if self.rank.resume else None
        if state is None:
            return None
        self.callbacks.bad_steps.restore(state.bad_steps)
        self.callbacks.spikes.restore(state.spikes)
        if lost := self.best.restore(state.best, library):
            self.rank.say(f"{lost}, the best so far, is not in {self.best.directory}: later evaluations decide anew")
            library.best_metric = None
        return state
