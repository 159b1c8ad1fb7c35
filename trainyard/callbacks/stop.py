"""Stopping together: the ranks agree on one step, save one checkpoint and leave."""

from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.worker import Worker


class StopCallback(TrainerCallback):
    """At every step's end the ranks compare notes; if any was asked to stop, all save and stop after this very step.

    The flag travels over a gloo group of its own, so no GPU waits for it.
    """

    def __init__(self, worker: Worker):
        self.worker = worker
        self.stopped = False
        self._group = dist.new_group(backend="gloo")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        flag = torch.tensor([int(self.worker.wants_to_stop())])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        if flag.item() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_training_stop = True
            control.should_save = True
            control.should_evaluate = False
