"""The Hugging Face Trainer on our loaders: exact order, judged steps, our evaluation, checkpoints with a manifest."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from trainyard.data.batches.loader import TimedLoader, eval_loader, train_loader
from trainyard.errors import FinalError, StoppedError
from trainyard.training import schedule
from trainyard.training.callbacks.bad_steps import require_finite_weights
from trainyard.training.callbacks.moments import Moments
from trainyard.training.evaluate import Evaluator
from trainyard.training.objectives.metric_sums import MetricSums
from trainyard.training.parts import TrainerParts


class Trainer(transformers.Trainer):
    """Owns plain objects, and overrides the methods of the library in which they take part.

    Bad steps are skipped on all ranks together, see BadSteps. In a good step every bit is the same as without them.
    """

    def __init__(self, model: PreTrainedModel, args: TrainingArguments, parts: TrainerParts):
        self.rank, self.batch_layout, self.loss_objective = parts.rank, parts.batch_layout, parts.objective
        self.saver, self.restorer = parts.saver, parts.restorer
        self.speed, self.stop = parts.callbacks.speed, parts.callbacks.stop
        self.bad_steps, self.kept = parts.callbacks.bad_steps, parts.kept
        self.best, self.early_stopping = parts.best, parts.callbacks.early_stopping
        self.evaluator = Evaluator(parts.objective, parts.rank, self.stop.agreed)
        self.metric_sums = MetricSums()
        self._loss_before = torch.zeros(())
        # The library sets its sums to zero just before train_begin.
        resume = Moments(train_begin=self._restore_rank_state, step_end=self.saver.check)
        step_bounds = Moments(step_begin=self._remember_loss, step_end=self._keep_schedule)
        super().__init__(
            model=model,
            args=args,
            train_dataset=parts.datasets.train,
            eval_dataset=parts.datasets.evaluation,
            data_collator=parts.collator,
            processing_class=parts.tokenizer,
            callbacks=parts.callbacks.in_order(resume, step_bounds),
        )
        self.remove_callback(transformers.PrinterCallback)

    # ---- batches ----

    def get_train_dataloader(self) -> TimedLoader:
        """This rank's micro batches from the step on at which the run goes on."""
        return train_loader(
            self.train_dataset,
            self.data_collator,
            self.batch_layout,
            seed=self.args.seed,
            start_step=self.rank.resume_step,
            max_steps=self.args.max_steps,
            skipped=self.bad_steps.samples.skipped,
            **self._loader_options(),
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """This rank's share of the held-out sequences."""
        return eval_loader(
            eval_dataset or self.eval_dataset,
            self.data_collator,
            rank=self.batch_layout.rank,
            world_size=self.batch_layout.world_size,
            batch_size=self.args.per_device_eval_batch_size,
            **self._loader_options(),
        )

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory and torch.cuda.is_available(),
            "prefetch_factor": self.args.dataloader_prefetch_factor,
        }

    # ---- a step ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        """The items of a step, over its micro batches and all ranks; None where the model's loss takes no such number.

        With trainer.average_tokens_across_devices=false each rank counts its own alone.
        """
        if not batch_samples or not self.model_accepts_loss_kwargs:
            return None
        items = torch.stack([self.loss_objective.items(batch) for batch in batch_samples]).sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            items = self.accelerator.gather(items).sum()
        return items.float()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The objective's loss of a micro batch as it goes into the backward pass, watched by BadSteps."""
        assert not return_outputs, "the objective gives a loss and metrics, and no outputs of the model"
        counted = num_items_in_batch is not None
        batch = {**inputs, "num_items_in_batch": num_items_in_batch} if counted else inputs
        loss, metrics = self.loss_objective(model, batch)
        # DDP and DeepSpeed average the gradients over the ranks, and the count is already that of all ranks.
        scale = self.accelerator.num_processes if counted and self.args.average_tokens_across_devices else 1
        share = 1.0 if counted else 1 / self.current_gradient_accumulation_steps
        self.metric_sums.add(metrics, scale * share)
        return self.bad_steps.watch(loss * scale, share, last=self.accelerator.sync_gradients)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm of the gradient before clipping; None when it is not finite.

        The library calls this between the last backward pass and the optimizer's step, which has nothing to apply in a
        bad step. Under DeepSpeed the backward pass has already applied or skipped the step.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        finite = math.isfinite(norm)
        skipped = self.accelerator.optimizer_step_was_skipped if self.is_deepspeed_enabled else not finite
        bad = self.bad_steps.judge(overflow=skipped and not self._scale_can_fall())
        self.metric_sums.end_step(good=not bad)
        if bad:
            if self.is_deepspeed_enabled and not skipped:
                raise FinalError("DeepSpeed has applied a step with a loss that is not finite: it must check that")
            model.zero_grad()  # torch's optimizers leave weights without a gradient alone, and their moments
            self._tr_loss = self._loss_before
            self._globalstep_last_logged += 1  # the step counts in no mean
        return norm if finite else None

    def _scale_can_fall(self) -> bool:
        """A gradient that is not finite may only mean that float16's loss scale is too high."""
        scaler = self.accelerator.scaler  # None under DeepSpeed, which ends the run when its own cannot fall
        return bool(self.args.fp16) and (scaler is None or scaler.get_scale() > 1)

    def _remember_loss(self) -> None:
        """Keeps the sum of losses before a step, for the case that the step is bad."""
        self._loss_before = self._tr_loss.clone()

    def _keep_schedule(self) -> None:
        """Lets the learning rate follow the step count: the library holds it where the optimizer skips a step."""
        by_loss = self.args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
        if self.accelerator.optimizer_step_was_skipped and not by_loss:
            scheduler: Any = self.lr_scheduler
            getattr(scheduler, "scheduler", scheduler).step()  # DeepSpeed's is wrapped

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the objective's metrics to a line with the loss."""
        super().log(logs | self.metric_sums.take() if "loss" in logs else logs, start_time)
        self.state.log_history.clear()  # all of it is in metrics.jsonl; here it would lie in every checkpoint

    # ---- evaluation ----

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: Any = None, ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:  # fmt: skip
        """The figures of the Evaluator, under the names by which the library compares evaluations."""
        model = self.model_wrapped if self.is_in_train else self.model
        counted = self.model_accepts_loss_kwargs
        figures = self.evaluator.run(model, dataloader, self._prepare_inputs, takes_count=counted)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        samples = len(dataloader.dataset)
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=samples)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Breaks off when the ranks are to stop; the next start evaluates instead."""
        first = self.state.global_step == self.rank.resume_step
        try:
            with self.speed.paused():
                metrics: dict[str, float] = super()._evaluate(*args, **kwargs)
        except StoppedError:
            if first:
                raise  # there is nothing to save
            self.stop.leave(self.control, evaluation_due=True)
            return {}
        if first and self.rank.resume_step > 0:  # done late: the library does not compare this evaluation with the best
            self._determine_best_metric(metrics, None)
            self.best.resumed(self.rank.resume_step)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """With trainer.save_strategy=best, whether to save. An evaluation that a stop broke off is never the best."""
        if not metrics:
            return self.stop.stopped
        self.best.evaluated(self.state.global_step, metrics)
        return bool(super()._determine_best_metric(metrics, trial))

    # ---- saving ----

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Leaves the files of the model to the saver, the same under every stage."""
        if self.args.should_save:
            directory = Path(output_dir or self.args.output_dir)
            self.saver.save_model(directory, self.model, state_dict)
            self.processing_class.save_pretrained(directory)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The saver writes the states of the optimizer, or lets DeepSpeed write them, and those of the schedule."""
        self.saver.save_states(self.model, self.optimizer, self.lr_scheduler, self.deepspeed)

    def _save_scaler(self, output_dir: str) -> None:
        """The saver writes the loss scale."""
        self.saver.save_scaler(self.accelerator.scaler)

    def _save_rng_state(self, output_dir: str) -> None:
        """The saver writes the random state of every rank."""
        self.saver.save_randomness()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes the library's and DeepSpeed's files. The saver makes them a checkpoint, and deletes older ones."""
        self.require_finite_weights()
        self.best.saved(self.state.global_step)
        self.state.best_global_step = self.best.step
        self.state.best_model_checkpoint = None  # it follows from the step
        with self.speed.paused(), self.saver.saving(self.state.global_step, self.best.checkpoint) as target:
            super()._save_checkpoint(model, trial)
            loss, logged = float(self._tr_loss), self._globalstep_last_logged
            self.kept.write(target, self.state.global_step, loss=loss, last_logged=logged)
        self.log({"save_stall_s": round(self.saver.stall_s or 0.0, 4)})

    def require_finite_weights(self) -> None:
        """Collective, before anything is saved; see callbacks.bad_steps."""
        require_finite_weights(self.model, self.args.device, self.saver.directory)

    # ---- resuming ----

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Lays the schedule over the run. Notes the settings of the new optimizer, which a checkpoint will replace.

        Under DeepSpeed the library has made the scheduler already, and gets it back.
        """
        is_new = self.lr_scheduler is None
        scheduler = super().create_scheduler(self.kept.schedule.total if is_new else num_training_steps, optimizer)
        if is_new:
            schedule.stretch(scheduler, self.kept.schedule)
        if optimizer is None:  # the Trainer's own, into which nothing has been loaded yet
            self.restorer.remember_settings(self.optimizer)
        return scheduler

    def _load_optimizer_and_scheduler(self, found: str | None) -> None:
        """The last part of loading: DeepSpeed has loaded its states, or the library the weights."""
        super()._load_optimizer_and_scheduler(found)
        if found is not None:
            rates = self.restorer.finish(Path(found), self.model, self.optimizer, self.lr_scheduler, self.deepspeed)
            if rates:
                self.rank.say(schedule.jump(*rates, self.kept.schedule_before, self.kept.schedule))

    def _load_rng_state(self, found: str | None) -> None:
        if found is None or not self.restorer.restore_randomness(Path(found), self.args.seed):
            super()._load_rng_state(found)

    def _restore_rank_state(self) -> None:
        """Goes on with the checkpoint's sum of losses since the last line of metrics, and what the objects kept."""
        if state := self.kept.restore(self.state):
            self._tr_loss += state.loss
            self._globalstep_last_logged = state.last_logged

    def _load_callback_state(self) -> None:
        """Restores the count of early stopping alone: the library would restore its settings over the command's."""
        for each in self.early_stopping:
            each.restore(self.state)

    # ---- the end ----

    def _run_epoch(self, **kwargs: Any) -> None:
        """Takes no step where early stopping was decided before this start, or by the evaluation that was due."""
        if not self.control.should_training_stop:
            super()._run_epoch(**kwargs)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """Goes back to the best checkpoint, unless the run is only stopped: then its next start will."""
        if not self.stop.stopped:  # early stopping may have come before a line was due
            self.control.should_log, self.control.should_evaluate, self.control.should_save = True, False, False
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, trial, 0, None, start_time)
        best = None if self.stop.stopped else self.best.checkpoint
        if self.args.load_best_model_at_end and not self.stop.stopped and best is None:
            self.rank.say("no evaluation has a checkpoint, so the model is that of the last step, not of the best one")
        self.state.best_model_checkpoint = None if best is None else str(best)
        return super()._finalize_training(trial, num_train_samples, start_time)

    @property
    def model_step(self) -> int:
        """The step of the weights that the model has at the end."""
        best = self.best.step if self.args.load_best_model_at_end else None
        return self.state.global_step if best is None else best

    def _load_best_model(self) -> None:
        self.saver.wait()
        dist.barrier()  # the best checkpoint may be the last one, whose manifest rank 0 has just written
        best = self.state.best_model_checkpoint
        with self.restorer.loadable(Path(best), self.deepspeed) as place:
            self.state.best_model_checkpoint = str(place)
            super()._load_best_model()
        self.state.best_model_checkpoint = best
