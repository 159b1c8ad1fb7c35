"""From a config and built parts to a Trainer with its callbacks; what is said before training and kept after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import IntervalStrategy, TrainerCallback, TrainingArguments

from trainyard.checkpoint.layout import layout_of
from trainyard.checkpoint.rank_state import read_rank_state
from trainyard.checkpoint.save import Saver
from trainyard.config.schema import Config, TrainerConfig
from trainyard.data.batches.collator import collator_for
from trainyard.data.batches.dataset import Datasets
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.sequences import show
from trainyard.inference import generate
from trainyard.model.size import count_parameters, flops_per_token
from trainyard.rundir.metrics import MetricsFile
from trainyard.rundir.rank import Rank
from trainyard.tracking import swanlab
from trainyard.training import skipped
from trainyard.training.arguments import count_steps, early_stopping, resolve_strategies
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.deepspeed_record import DeepSpeedRecord
from trainyard.training.callbacks.generations import GenerationsCallback
from trainyard.training.callbacks.progress import ProgressCallback
from trainyard.training.callbacks.speed import SpeedCallback
from trainyard.training.callbacks.spikes import LossWindow, SpikeCallback
from trainyard.training.callbacks.stop import StopCallback
from trainyard.training.step_samples import StepSamples
from trainyard.training.trainer import Trainer


@dataclass
class Training:
    """A Trainer that is ready, and the callbacks that are asked afterwards."""

    trainer: Trainer
    stop: StopCallback
    tracker: Any
    samples: GenerationsCallback | None


def build(
    this: Rank, config: Config, args: TrainingArguments, model: Any, tokenizer: Any, datasets: Datasets
) -> Training:
    """Assembles the Trainer; `args` must have been made before `model`, so that ZeRO-3 could partition it."""
    split = BatchLayout(
        rank=this.rank,
        world_size=this.world_size,
        micro_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
    )
    args.max_steps = count_steps(config.trainer, len(datasets.train))
    resolve_strategies(args, len(datasets.train), split.global_batch)
    if datasets.evaluation is None:  # a corpus of one document
        args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False
    state = read_rank_state(this.resume, split) if this.resume else None
    if this.resume is not None:
        args.eval_on_start = state is not None and state.evaluation_due
    tokens_per_step = round(split.global_batch * datasets.train.plan.tokens_per_sequence)
    stop = StopCallback(this)
    left_out = skipped.stretches(this.run_dir, state.skipped if state else [])
    in_order = StepSamples(datasets.train, split, config.run.seed, left_out)
    bad_steps = BadSteps(this, stop, in_order, config.trainer.max_bad_steps)
    speed = SpeedCallback(
        tokens_per_step=tokens_per_step,
        samples_per_epoch=len(datasets.train) / split.global_batch,
        flops_per_token=flops_per_token(model, config.data.block_size),
        world_size=this.world_size,
    )
    samples = _samples(this, config, tokenizer, datasets)
    callbacks: list[TrainerCallback] = [*early_stopping(config.trainer), *filter(None, [samples])]
    tracker = None
    if this.is_first:
        metrics = MetricsFile(this.run_dir.metrics, this.resume_step if this.resume else None)
        callbacks += [ProgressCallback(this, metrics, tokens_per_step)]
        callbacks += [DeepSpeedRecord(this.run_dir.deepspeed)] if config.deepspeed.config else []
        if datasets.train.store.masked:
            this.run_dir.example.write_text(show.example(datasets.train, tokenizer, config), encoding="utf-8")
        tracker = _tracker(this, config, metrics.history)
        callbacks += [tracker] if tracker else []
        if tracker and samples:
            tracker.samples, samples.show = samples.kept, tracker.show
    trainer = Trainer(
        model,
        args,
        train_dataset=datasets.train,
        eval_dataset=datasets.evaluation,
        data_collator=collator_for(config, model),
        tokenizer=tokenizer,
        split=split,
        start_step=this.resume_step,
        callbacks=callbacks,
        speed=speed,
        stop=stop,
        bad_steps=bad_steps,
        spikes=_spikes(this, config.trainer, stop, bad_steps),
        worker=this,
        saver=_saver(this, config, split, args, count_parameters(model)[1]),
    )
    return Training(trainer, stop, tracker, samples)


def _spikes(this: Rank, trainer: TrainerConfig, stop: StopCallback, bad_steps: BadSteps) -> SpikeCallback:
    window = LossWindow(trainer.spike_window, trainer.spike_deviations)
    return SpikeCallback(this, stop, bad_steps, window, roll_back=trainer.on_spike == "rollback")


def _saver(this: Rank, config: Config, split: BatchLayout, args: TrainingArguments, trainable: int) -> Saver:
    return Saver(
        this.run_dir.checkpoints,
        this,
        split,
        keep=args.save_total_limit,
        trainable=trainable,
        grace_period_s=config.launch.grace_period_s,
        layout=layout_of(config),
        in_background=config.trainer.async_save,
    )


def _tracker(this: Rank, config: Config, history: list[dict[str, Any]]) -> Any:
    if config.tracking.backend is None or config.tracking.mode == "disabled":
        return None
    from trainyard.tracking.callback import SwanLabCallback

    log_dir = Path(config.paths.outputs) / swanlab.FOLDER
    return SwanLabCallback(swanlab.SwanLabRun(config, this.run_dir, log_dir), history, this.say)


def _samples(this: Rank, config: Config, tokenizer: Any, datasets: Datasets) -> GenerationsCallback | None:
    if not config.tracking.samples or datasets.evaluation is None:
        return None
    return GenerationsCallback(
        this.run_dir.samples if this.is_first else None,
        datasets.evaluation,
        tokenizer,
        generate.end_ids(tokenizer, config.data.template_variables),
        count=config.tracking.samples,
        max_new_tokens=config.tracking.sample_tokens,
        resume_step=this.resume_step if this.resume else None,
    )
