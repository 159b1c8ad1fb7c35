"""Steps whose loss or gradient is NaN or infinite: skipped on all ranks together and counted. Too many in a row end the
run.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.checkpoint.directory import newest_whole
from trainyard.checkpoint.rank_state import BadStepsState
from trainyard.errors import FinalError
from trainyard.rundir.rank import Rank
from trainyard.training.callbacks.stop import StopCallback
from trainyard.training.step_samples import StepSamples


class BadSteps(TrainerCallback):
    """Judges every step before it counts.

    The losses of a step are added up on the device and reduced over the ranks once, before the last backward pass. The
    sum is finite only if every loss on every rank is. If it is not, the last loss is multiplied by NaN on every rank: a
    bad loss becomes a bad gradient, and one mechanism skips both before anything is applied. DeepSpeed checks the norm
    of the gradient within its step. Under DDP our Trainer checks it, and drops the gradient. Weights and moments stay
    as they were. The data, the step count and the learning rate go on as if the step had been taken.

    A save or an evaluation that falls due during a streak of bad steps waits for the next good step.

    Attributes:
        is_bad: the last step was bad.
        loss: the loss of the last step, over all ranks.
        total: the number of bad steps in the run.
        streak: a line about each bad step since the last good one.
    """

    def __init__(self, rank: Rank, stop: StopCallback, samples: StepSamples, limit: int):
        """`limit` bad steps in a row end the run."""
        self.rank, self.stop, self.samples, self.limit = rank, stop, samples, limit
        self.is_bad, self.loss = False, math.nan
        self.total = 0
        self.streak: list[str] = []
        self._save_due = self._evaluation_due = False
        self._losses: list[torch.Tensor] = []
        self._sum = torch.zeros(())

    def state(self) -> BadStepsState:
        """The part of this object that a checkpoint keeps."""
        return BadStepsState(self.total, self.streak, self._save_due, self._evaluation_due)

    def restore(self, state: BadStepsState) -> None:
        """Goes on from the state of a checkpoint."""
        self.total, self.streak = state.total, state.streak
        self._save_due, self._evaluation_due = state.save_due, state.evaluation_due

    def watch(self, loss: torch.Tensor, share: float, *, last: bool) -> torch.Tensor:
        """Notes the loss of a micro batch, and returns it as it enters the backward pass.

        Args:
            share: the weight of this loss in the loss of the step: 1 when it is a part of a sum.
            last: this is the last micro batch of the step. Collective then.
        """
        self._losses.append(loss.detach())
        if not last:
            return loss
        self._sum = torch.stack(self._losses).double().sum() * share
        dist.all_reduce(self._sum)
        return loss * torch.where(self._sum.isfinite(), 1.0, math.nan).to(loss.dtype)

    def judge(self, *, overflow: bool) -> bool:
        """True when the step is bad. Here the host waits for the device, once in a step.

        Args:
            overflow: the gradient is not finite, and lowering fp16's loss scale cannot help.
        """
        self.loss = float(self._sum) / self.samples.batch_layout.world_size
        self.is_bad = overflow or not math.isfinite(self.loss)
        return self.is_bad

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._losses = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self.is_bad:
            self.streak = []
            if not self.stop.stopped:
                self._make_up(control)
            return
        self.total += 1
        self.streak.append(f"step {state.global_step}: {self._reason(state.global_step - 1)}")
        self.rank.say(f"{self.streak[-1]}; skipped on all ranks, {len(self.streak)} in a row")
        if len(self.streak) >= self.limit and not self.stop.stopped:
            raise FinalError(self._too_many())
        if not control.should_training_stop:
            self._postpone(control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.total:
            kwargs["logs"]["bad_steps"] = self.total

    def _postpone(self, control: TrainerControl) -> None:
        self._save_due |= control.should_save
        self._evaluation_due |= control.should_evaluate
        control.should_save = control.should_evaluate = False

    def _make_up(self, control: TrainerControl) -> None:
        control.should_save |= self._save_due
        control.should_evaluate |= self._evaluation_due
        self._save_due = self._evaluation_due = False

    def _reason(self, step: int) -> str:
        """Collective. The reason why the last step is bad: the ranks and the samples."""
        own = torch.stack(self._losses).float()
        losses = [torch.empty_like(own) for _ in range(self.samples.batch_layout.world_size)]
        dist.all_gather(losses, own)
        found = [
            f"the loss is {loss} on rank {rank}, {self.samples.named(self.samples.of_micro_batch(step, number, rank))}"
            for rank, of_rank in enumerate(losses)
            for number, loss in enumerate(of_rank.tolist())
            if not math.isfinite(loss)
        ]
        # A gradient is known only as the sum over the ranks, so no rank can be named.
        return "; ".join(found) or f"the gradient is not finite, {self.samples.named(self.samples.of_step(step))}"

    def _too_many(self) -> str:
        newest = newest_whole(self.rank.run_dir.checkpoints)
        return (
            f"trainer.max_bad_steps={self.limit}: {len(self.streak)} steps in a row had a NaN or infinite loss or "
            f"gradient. {'; '.join(self.streak)}. Look at these samples with `preview --start`; if they are sound, "
            f"go on with a lower trainer.learning_rate{_go_on_from(newest)}; or allow more with trainer.max_bad_steps"
        )


def require_finite_weights(model: Any, device: torch.device, checkpoints: Path) -> None:
    """Collective, before anything is saved.

    Raises:
        FinalError: on all ranks, when a weight of any rank is NaN or infinite.
    """
    # Under ZeRO-3 a parameter is empty, and its ds_tensor holds this rank's part.
    parts = ((name, getattr(parameter, "ds_tensor", parameter)) for name, parameter in model.named_parameters())
    bad = next((name for name, part in parts if not part.detach().isfinite().all()), None)
    found = torch.tensor([int(bad is not None)], device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    if found.item():
        newest = newest_whole(checkpoints)
        raise FinalError(
            f"{bad or 'a weight of another rank'} is NaN or infinite, and what is saved must be finite: nothing was. "
            f"Go on with a lower trainer.learning_rate or trainer.max_grad_norm{_go_on_from(newest)}"
        )


def _go_on_from(newest: Path | None) -> str:
    if newest is None:
        return "; there is no checkpoint yet"
    return f" from the last good checkpoint, run.name=NEW run.resume={newest}"
