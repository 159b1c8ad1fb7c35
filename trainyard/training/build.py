"""From a config and built parts to a Trainer with its callbacks, in steps that can be read one by one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import IntervalStrategy, TrainingArguments

from trainyard.checkpoint.layout import layout_of
from trainyard.checkpoint.manifest import Manifest
from trainyard.checkpoint.rank_state import read_rank_state
from trainyard.checkpoint.save import Saver
from trainyard.config.schema import Config, TrainerConfig
from trainyard.data.batches.collator import collator_for
from trainyard.data.batches.dataset import Datasets
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.sequences import show
from trainyard.files import write_text
from trainyard.inference import generate
from trainyard.model.size import count_parameters, flops_per_token
from trainyard.rundir.metrics import History, MetricsFile
from trainyard.rundir.rank import Rank
from trainyard.tracking import swanlab
from trainyard.tracking.callback import TrackerCallback
from trainyard.training import schedule, skipped
from trainyard.training.arguments import count_steps, early_stopping, judge, resolve_strategies
from trainyard.training.best import BestCheckpoint
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.deepspeed_record import DeepSpeedRecord
from trainyard.training.callbacks.generations import GenerationsCallback
from trainyard.training.callbacks.order import Callbacks
from trainyard.training.callbacks.profile import ProfileCallback
from trainyard.training.callbacks.progress import ProgressCallback
from trainyard.training.callbacks.speed import SpeedCallback
from trainyard.training.callbacks.spikes import LossWindow, SpikeCallback
from trainyard.training.callbacks.stop import StopCallback
from trainyard.training.kept import Kept
from trainyard.training.objectives.objective import Objective
from trainyard.training.parts import TrainerParts
from trainyard.training.restoring import Restorer
from trainyard.training.step_samples import StepSamples
from trainyard.training.trainer import Trainer


@dataclass(frozen=True)
class Training:
    """A Trainer that is ready, and the callbacks that are asked afterwards."""

    trainer: Trainer
    callbacks: Callbacks


def build(
    this: Rank,
    config: Config,
    args: TrainingArguments,
    model: Any,
    tokenizer: Any,
    datasets: Datasets,
    objective: Objective,
) -> Training:
    """Assembles the Trainer. Collective: the ranks open a process group for stop signals.

    Args:
        args: made before `model`, so that ZeRO-3 could partition it; completed here with what follows from the data.
    """
    batch_layout = _batch_layout(this, args)
    state = read_rank_state(this.resume, batch_layout) if this.resume else None
    _complete(args, config.trainer, datasets, batch_layout)
    if this.resume is not None:
        args.eval_on_start = state is not None and state.evaluation_due
    left_out = skipped.stretches(this.run_dir, state.skipped if state else [])
    tokens_before = state.tokens_seen if state else None
    samples = StepSamples(datasets.train, batch_layout, config.run.seed, left_out, tokens_before)
    callbacks = _deciding(this, config, model, samples)
    _add_telling(callbacks, this, config, model, tokenizer, datasets)
    saver = _saver(this, config, batch_layout, count_parameters(model)[1])
    best = BestCheckpoint(this.run_dir.checkpoints, judge(args))
    before = schedule.of_checkpoint(this.resume, state) if this.resume else None
    if before is None:
        now = schedule.begin(batch_layout, args.max_steps)
    else:
        now = schedule.go_on(before, batch_layout, this.resume_step, args.max_steps)
    parts = TrainerParts(
        rank=this,
        tokenizer=tokenizer,
        datasets=datasets,
        collator=collator_for(config, model),
        batch_layout=batch_layout,
        objective=objective,
        callbacks=callbacks,
        saver=saver,
        restorer=Restorer(this, batch_layout, saver),
        best=best,
        kept=Kept(this, batch_layout, callbacks, best, now, before),
    )
    return Training(Trainer(model, args, parts), callbacks)


def _batch_layout(this: Rank, args: TrainingArguments) -> BatchLayout:
    """The division of the global batch, from the samples on at which the checkpoint was written."""
    manifest = Manifest.read(this.resume) if this.resume else None
    return BatchLayout(
        rank=this.rank,
        world_size=this.world_size,
        micro_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        first_step=this.resume_step if manifest else 0,
        first_sample=(manifest.samples_seen or 0) if manifest else 0,
    )


def _complete(args: TrainingArguments, trainer: TrainerConfig, datasets: Datasets, batch_layout: BatchLayout) -> None:
    """Counts the steps by the data, in place. A corpus of one document has nothing held out to evaluate."""
    args.max_steps = count_steps(trainer, len(datasets.train), batch_layout)
    resolve_strategies(args, len(datasets.train), batch_layout.global_batch)
    if datasets.evaluation is None:
        args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False


def _deciding(this: Rank, config: Config, model: Any, samples: StepSamples) -> Callbacks:
    """The callbacks of every rank that may change what the Trainer does, and the speed."""
    stop = StopCallback(this)
    bad_steps = BadSteps(this, stop, samples, config.trainer.max_bad_steps)
    window = LossWindow(config.trainer.spike_window, config.trainer.spike_deviations)
    speed = SpeedCallback(
        samples=samples,
        flops_per_token=flops_per_token(model, config.data.sequence_length),
        world_size=this.world_size,
    )
    spikes = SpikeCallback(this, stop, bad_steps, window, roll_back=config.trainer.on_spike == "rollback")
    return Callbacks(speed, stop, bad_steps, spikes, early_stopping=early_stopping(config.trainer))


def _add_telling(
    callbacks: Callbacks, this: Rank, config: Config, model: Any, tokenizer: Any, datasets: Datasets
) -> None:
    """Adds, in place, the callbacks that only report: generations on every rank, all others on rank 0."""
    callbacks.generations = generations = _generations(this, config, model, tokenizer, datasets)
    if not this.is_first:
        return
    metrics = MetricsFile(this.run_dir.metrics, this.resume_step if this.resume else None)
    callbacks.progress = ProgressCallback(this, metrics, callbacks.speed.samples)
    if config.run.profile_steps:
        callbacks.profile = ProfileCallback(this.run_dir.trace, config.run.profile_steps, this.say)
    if config.deepspeed.config:
        callbacks.deepspeed_record = DeepSpeedRecord(this.run_dir.deepspeed)
    if datasets.train.store.masked:  # before the tracker is made: it shows the example
        write_text(this.run_dir.example, show.example(datasets.train, tokenizer, config))
    callbacks.tracker = tracker = _tracker(this, config, metrics.history)
    if tracker and generations:
        tracker.samples, generations.show = generations.kept, tracker.show


def _generations(
    this: Rank, config: Config, model: Any, tokenizer: Any, datasets: Datasets
) -> GenerationsCallback | None:
    if not config.tracking.samples or datasets.evaluation is None:
        return None
    return GenerationsCallback(
        this.run_dir.samples if this.is_first else None,
        datasets.evaluation,
        tokenizer,
        generate.end_ids(tokenizer, config.data.template_variables, model),
        count=config.tracking.samples,
        max_new_tokens=config.tracking.sample_tokens,
        resume_step=this.resume_step if this.resume else None,
    )


def _tracker(this: Rank, config: Config, history: History) -> TrackerCallback | None:
    if config.tracking.backend is None or config.tracking.mode == "disabled":
        return None
    log_dir = Path(config.paths.outputs) / swanlab.FOLDER
    run = swanlab.SwanLabRun(config, this.run_dir, log_dir)
    return TrackerCallback(run, lambda: history.thinned(swanlab.DRAWN), this.say)


def _saver(this: Rank, config: Config, batch_layout: BatchLayout, trainable: int) -> Saver:
    return Saver(
        this.run_dir.checkpoints,
        this,
        batch_layout,
        keep=config.trainer.save_total_limit,
        trainable=trainable,
        grace_period_s=config.launch.grace_period_s,
        layout=layout_of(config),
        in_background=config.trainer.async_save,
    )
