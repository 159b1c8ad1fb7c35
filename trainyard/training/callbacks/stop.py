"""Stopping together: the ranks agree on one step, save one checkpoint and leave."""

from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.errors import StoppedError
from trainyard.rundir.rank import Rank


class StopCallback(TrainerCallback):
    """Before the first step and at the end of each the ranks compare notes; if any was asked to stop, all save and stop
    at this very step.

    The flag travels over a gloo group of its own, so no GPU waits for it.

    Attributes:
        stopped: are the ranks leaving before the end?
        evaluation_due: has an evaluation been left out for that?
    """

    def __init__(self, worker: Rank):
        self.worker = worker
        self.stopped = self.evaluation_due = False
        self._group = dist.new_group(backend="gloo")

    def agreed(self) -> bool:
        """Was any rank asked to stop? Every rank must ask at the same moment, and gets the same answer."""
        flag = torch.tensor([int(self.worker.wants_to_stop())])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        if flag.item():
            self.worker.note(now=True, asked=self.worker.stop_signalled or "a signal to a rank")
        return bool(flag.item())

    def leave(self, control: TrainerControl, *, evaluation_due: bool) -> None:
        """Has the Trainer save and stop at this step."""
        self.stopped, self.evaluation_due = True, evaluation_due
        control.should_training_stop = control.should_save = True
        control.should_evaluate = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.agreed():
            raise StoppedError

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.worker.step = state.global_step
        if self.agreed() and state.global_step < state.max_steps:
            self.leave(control, evaluation_due=control.should_evaluate)
