"""Spikes of the loss: a running window finds them, and they are logged, or undone together with their data."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.checkpoint.directory import newest_whole, step_of
from trainyard.checkpoint.rank_state import SpikesState
from trainyard.errors import FinalError, RollbackError, StoppedError
from trainyard.files import json_lines, write_text
from trainyard.rundir.metrics import read_metrics
from trainyard.rundir.rank import Rank
from trainyard.training import skipped
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.stop import StopCallback


class Usual(NamedTuple):
    """Mean and standard deviation of the losses in the window."""

    mean: float
    deviation: float


@dataclass
class LossWindow:
    """The losses of the last `size` steps without a spike.

    A loss is a spike when it lies more than `deviations` standard deviations above their mean. After half a window of
    consecutive spikes the loss has moved to a new level: these losses replace the window.
    """

    size: int
    deviations: float
    losses: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    """The consecutive spikes up to now."""

    def add(self, loss: float) -> Usual | None:
        """Adds the next loss. Returns what was usual before it when it is a spike, else None."""
        half = self.size // 2
        if len(self.losses) >= half:
            mean = math.fsum(self.losses) / len(self.losses)
            deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in self.losses) / len(self.losses))
            if loss > mean + self.deviations * deviation:
                self.outside.append(loss)
                if len(self.outside) >= half:
                    self.losses, self.outside = self.outside, []
                return Usual(mean, deviation)
        self.outside = []
        self.losses = [*self.losses, loss][-self.size :]
        return None


class SpikeCallback(TrainerCallback):
    """Judges the loss of every good step, a mean over all ranks, and acts as trainer.on_spike says.

    log: says so on the screen, and adds a row to spikes.jsonl.

    rollback: does what was done by hand for PaLM (Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways",
    2022, section 5.1). Its authors restarted about 100 steps before a spike and left out the 200 to 500 batches around
    it, since spikes came from certain batches at a certain state of the weights. Here all ranks leave, the controller
    starts them again from the newest checkpoint, and the run leaves out a stretch of its data from then on: the samples
    of one window of steps, of which the step of the spike is the last, as far as the checkpoint has not learned them.
    A shorter stretch might spare the batches that led up to the spike; a longer one would cost a run that saves seldom
    much data for nothing. The steps between the checkpoint and the stretch are trained again, the same as before.
    """

    def __init__(self, rank: Rank, stop: StopCallback, bad_steps: BadSteps, window: LossWindow, *, roll_back: bool):
        self.rank, self.stop, self.bad_steps, self.window = rank, stop, bad_steps, window
        self.roll_back = roll_back
        self.rollbacks = len(skipped.read(rank.run_dir))

    def state(self) -> SpikesState:
        """The part that a checkpoint keeps, so that a resumed run decides the same."""
        return SpikesState(self.window.losses, self.window.outside)

    def restore(self, state: SpikesState) -> None:
        """Goes on from the state of a checkpoint."""
        self.window.losses = state.losses[-self.window.size :]
        self.window.outside = state.outside

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bad_steps.is_bad:
            return
        usual = self.window.add(self.bad_steps.loss)
        if usual is None:
            return
        first = self._begins_at(state.global_step) if self.roll_back else state.global_step - 1
        samples = self.bad_steps.samples
        row = {
            "step": state.global_step,
            "loss": self.bad_steps.loss,
            **usual._asdict(),
            "first_sample": int(samples.of_step(first)[0]),
            "last_sample": int(samples.of_step(state.global_step - 1)[-1]),
        }
        spike = (
            f"step {state.global_step}: the loss {self.bad_steps.loss:.4g} is a spike, above the usual "
            f"{usual.mean:.4g} by more than {self.window.deviations:g} standard deviations of {usual.deviation:.2g}; "
            f"{samples.named(samples.of_step(state.global_step - 1))}"
        )
        if self.roll_back:
            self._undo(spike, row)
        self.rank.say(spike)
        if self.rank.is_first:
            self._log(row)

    def _begins_at(self, step: int) -> int:
        """The first step, counted from 0, of the stretch that is left out for a spike at `step`."""
        newest = newest_whole(self.rank.run_dir.checkpoints)
        saved = step_of(newest) if newest else None
        return max(self.rank.resume_step if saved is None else saved, step - self.window.size)

    def _log(self, row: dict[str, Any]) -> None:
        """Writes the row once, also when a crash makes the run meet the spike twice."""
        path = self.rank.run_dir.spikes
        rows = [each for each in read_metrics(path) if each["step"] < row["step"]]
        write_text(path, json_lines([*rows, row]))

    def _undo(self, spike: str, row: dict[str, Any]) -> None:
        """
        Raises:
            RollbackError: the stretch is on record, and the controller starts the ranks again.
            StoppedError: the stretch is on record and the run is to stop: its next start leaves the stretch out.
            FinalError: the run has gone back too often.
        """
        if self.rollbacks >= skipped.MAX_ROLLBACKS:
            raise FinalError(
                f"{spike}; trainer.on_spike=rollback has gone back {self.rollbacks} times, at most: the data is not "
                f"the cause. Lower trainer.learning_rate, or let spikes pass with trainer.on_spike=log"
            )
        self.rank.say(f"{spike}; going back, samples {row['first_sample']} to {row['last_sample']} are left out")
        if self.rank.is_first:
            skipped.add(self.rank.run_dir, row)
        dist.barrier()  # no rank leaves before the stretch is on record
        if self.stop.stopped:
            raise StoppedError
        raise RollbackError(spike)
