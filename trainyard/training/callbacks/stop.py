"""A stop of all ranks together: they agree on a step, save a checkpoint there and leave."""

from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.errors import StoppedError
from trainyard.rundir.rank import Rank


class StopCallback(TrainerCallback):
    """Before the first step and after every step the ranks ask each other whether to stop; if one of them was asked to,
    all save and stop at this very step.

    The question goes through a gloo group of its own, so no GPU waits for it.

    Attributes:
        stopped: the ranks leave before the end of the run.
        evaluation_due: an evaluation was left out because of the stop.
    """

    def __init__(self, rank: Rank):
        self.rank = rank
        self.stopped = self.evaluation_due = False
        self._group = dist.new_group(backend="gloo")

    def agreed(self) -> bool:
        """Collective. True on all ranks when any of them was asked to stop."""
        flag = torch.tensor([int(self.rank.wants_to_stop())])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        if flag.item():
            self.rank.note(now=True, asked=self.rank.stop_signalled or "a signal to a rank")
        return bool(flag.item())

    def leave(self, control: TrainerControl, *, evaluation_due: bool) -> None:
        """Lets the Trainer save and stop at this step."""
        self.stopped, self.evaluation_due = True, evaluation_due
        control.should_training_stop = control.should_save = True
        control.should_evaluate = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.agreed():
            raise StoppedError

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.rank.step = state.global_step
        if self.agreed() and state.global_step < state.max_steps:
            self.leave(control, evaluation_due=control.should_evaluate)
