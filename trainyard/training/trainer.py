"""The Trainer factory that every stage uses: TrainingArguments, the process group, and a Trainer on our data layer."""

import math
from typing import Any

import torch
import torch.distributed as dist
import transformers
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from trainyard.checkpoint.rank_state import RankState, read_rank_state
from trainyard.checkpoint.save import Saver, write_names
from trainyard.data.batches.collator import IGNORE, Collator
from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout, TimedLoader, eval_loader, train_loader
from trainyard.errors import StoppedError
from trainyard.rundir.rank import Rank
from trainyard.training.callbacks.bad_steps import BadSteps, require_finite_weights
from trainyard.training.callbacks.speed import SpeedCallback
from trainyard.training.callbacks.spikes import SpikeCallback
from trainyard.training.callbacks.stop import StopCallback
from trainyard.training.restoring import Restoring
from trainyard.training.steps import JudgedSteps


class Trainer(JudgedSteps, Restoring):
    """The Hugging Face Trainer on our loaders: exact order, resume and evaluation, checkpoints with a manifest."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        train_dataset: TokenDataset,
        eval_dataset: TokenDataset | None,
        data_collator: Collator,
        tokenizer: Any,
        split: BatchLayout,
        start_step: int,
        callbacks: list[TrainerCallback],
        speed: SpeedCallback,
        stop: StopCallback,
        bad_steps: BadSteps,
        spikes: SpikeCallback,
        worker: Rank,
        saver: Saver,
    ):
        self.split, self.start_step, self.worker = split, start_step, worker
        self.speed, self.stop, self.spikes, self.saver = speed, stop, spikes, saver
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=tokenizer,
            callbacks=[speed, stop, bad_steps, spikes, _Keeping(self), *callbacks],
            bad_steps=bad_steps,
        )
        self.remove_callback(transformers.PrinterCallback)

    def get_train_dataloader(self) -> TimedLoader:
        return train_loader(
            self.train_dataset,
            self.data_collator,
            self.split,
            seed=self.args.seed,
            start_step=self.start_step,
            max_steps=self.args.max_steps,
            skipped=self.bad_steps.samples.skipped,
            **self._loader_options(),
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return eval_loader(
            eval_dataset or self.eval_dataset,
            self.data_collator,
            rank=self.split.rank,
            world_size=self.split.world_size,
            batch_size=self.args.per_device_eval_batch_size,
            **self._loader_options(),
        )

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory and torch.cuda.is_available(),
            "prefetch_factor": self.args.dataloader_prefetch_factor,
        }

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Leaves off when the ranks are to stop; the next start makes up for it."""
        try:
            with self.speed.paused():
                metrics: dict[str, float] = super()._evaluate(*args, **kwargs)
        except StoppedError:
            if self.state.global_step == self.start_step:
                raise  # there is nothing to save
            self.stop.leave(self.control, evaluation_due=True)
            return {}
        if self.state.global_step == self.start_step > 0:  # made up for: the Trainer does not compare this one
            self._determine_best_metric(metrics, None)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return bool(metrics) and super()._determine_best_metric(metrics, trial)

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: Any = None, ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:  # fmt: skip
        """The mean loss over all predicted tokens of all ranks, whatever the batches, and its exponential."""
        model = self.model_wrapped if self.is_in_train else self.model
        model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # sum of losses, tokens
        samples = 0
        with torch.no_grad():
            for number, batch in enumerate(dataloader):
                if self.stop.agreed():
                    raise StoppedError
                self.worker.note(phase="evaluating", batch=number)
                inputs = self._prepare_inputs(batch)
                tokens = inputs["labels"][:, 1:].ne(IGNORE).sum()
                if inputs["input_ids"].numel() == 0:  # others still have a batch, and ZeRO-3 gathers in the forward
                    nothing = torch.zeros(1, 2, dtype=torch.int64, device=self.args.device)
                    inputs = {"input_ids": nothing, "labels": nothing}
                with self.compute_loss_context_manager():
                    if self.model_accepts_loss_kwargs:  # divided by 1, the loss is a sum
                        loss = model(**inputs, num_items_in_batch=torch.ones((), device=self.args.device)).loss
                    else:
                        loss = model(**inputs).loss * tokens
                total += torch.stack([torch.where(tokens > 0, loss.double(), 0.0), tokens.double()])
                samples += len(batch["input_ids"])
        dist.all_reduce(total)
        mean = float(total[0] / total[1])
        metrics = {
            f"{metric_key_prefix}_loss": mean,
            f"{metric_key_prefix}_perplexity": math.exp(min(mean, 700.0)),
        }
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=samples)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Without the copies of tied weights that DeepSpeed's gathering makes: the same file under every ZeRO stage."""
        if state_dict is not None:
            tied = getattr(self.model, "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The Trainer's and DeepSpeed's files, made a checkpoint by the saver, which deletes older ones too."""
        self.require_finite_weights()
        keep, self.args.save_total_limit = self.args.save_total_limit, None
        saving = self.saver.saving(self.state.global_step, lambda: self.state.best_model_checkpoint)
        try:
            with self.speed.paused(), saving as target:
                super()._save_checkpoint(model, trial)
                if self.split.rank == 0 and not self.is_deepspeed_enabled:
                    write_names(target, self.model, self.optimizer)
                RankState(
                    loss=float(self._tr_loss),
                    last_logged=self._globalstep_last_logged,
                    evaluation_due=self.stop.evaluation_due,
                    bad_steps=self.bad_steps.state(),
                    spikes=self.spikes.state(),
                    skipped=self.bad_steps.samples.skipped,
                ).write(target, self.split.rank)
        finally:
            self.args.save_total_limit = keep
        self.log({"save_stall_s": round(self.saver.stall_s or 0.0, 4)})

    def _load_best_model(self) -> None:
        self.saver.wait()
        dist.barrier()  # it may be the last one saved, whose manifest rank 0 has written
        super()._load_best_model()

    def require_finite_weights(self) -> None:
        require_finite_weights(self.model, self.args.device, self.saver.directory)

    def restore_window(self) -> None:
        """Goes on with the mean loss since the last line of metrics, bad steps, spikes as the checkpoint left them."""
        state = read_rank_state(self.worker.resume, self.split) if self.worker.resume else None
        if state is not None:
            self._tr_loss += state.loss
            self._globalstep_last_logged = state.last_logged
            self.bad_steps.restore(state.bad_steps)
            self.spikes.restore(state.spikes)


class _Keeping(TrainerCallback):
    """Takes the loss window up again once the Trainer has set its own sums to zero, and looks after saves under way."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.restore_window()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.saver.check()
