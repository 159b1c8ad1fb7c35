"""The step of the Hugging Face Trainer, which is judged before it counts."""

import math
from typing import Any

import torch
import transformers
from transformers import TrainerCallback

from trainyard.errors import FinalError
from trainyard.training.callbacks.bad_steps import BadSteps


class JudgedSteps(transformers.Trainer):
    """Skips bad steps on all ranks together, see BadSteps; in good steps every bit is what it would be without."""

    def __init__(self, *args: Any, bad_steps: BadSteps, **kwargs: Any):
        self.bad_steps = bad_steps
        self._loss_before = torch.zeros(())
        super().__init__(*args, **kwargs)
        self.add_callback(_Moments(self))

    def compute_loss(self, *args: Any, num_items_in_batch: Any = None, **kwargs: Any) -> torch.Tensor:
        loss = super().compute_loss(*args, num_items_in_batch=num_items_in_batch, **kwargs)
        divided = self.model_accepts_loss_kwargs and num_items_in_batch is not None  # by the tokens of the whole step
        share = 1.0 if divided else 1 / self.current_gradient_accumulation_steps
        return self.bad_steps.watch(loss, share, last=self.accelerator.sync_gradients)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called between the last backward pass and the optimizer, which then has nothing to apply in a bad step; under
        DeepSpeed the backward pass has already applied or skipped it.

        Returns:
            The norm before clipping; None when it is not finite.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        finite = math.isfinite(norm)
        skipped = self.accelerator.optimizer_step_was_skipped if self.is_deepspeed_enabled else not finite
        if self.bad_steps.judge(overflow=skipped and not self._scale_can_fall()):
            if self.is_deepspeed_enabled and not skipped:
                raise FinalError("DeepSpeed has applied a step with a loss that is not finite: it must check that")
            model.zero_grad()  # torch's optimizers leave weights without a gradient alone, and their moments
            self._tr_loss = self._loss_before
            self._globalstep_last_logged += 1  # the step counts in no mean
        return norm if finite else None

    def _scale_can_fall(self) -> bool:
        """Does a gradient that is not finite only mean that float16's loss scale was too high?"""
        scaler = self.accelerator.scaler  # None under DeepSpeed, which ends the run when its own cannot fall
        return bool(self.args.fp16) and (scaler is None or scaler.get_scale() > 1)

    def remember_loss(self) -> None:
        self._loss_before = self._tr_loss.clone()

    def keep_schedule(self) -> None:
        """The learning rate follows the step count. Where the optimizer has skipped a step, the libraries hold it."""
        by_loss = self.args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
        if self.accelerator.optimizer_step_was_skipped and not by_loss:
            scheduler: Any = self.lr_scheduler
            getattr(scheduler, "scheduler", scheduler).step()  # DeepSpeed's is wrapped


class _Moments(TrainerCallback):
    """Calls the Trainer at moments for which it has no method to override."""

    def __init__(self, trainer: JudgedSteps):
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.remember_loss()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.keep_schedule()
