"""From a config and built parts to a Trainer with its callbacks; what is said before training and kept after it."""

import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import IntervalStrategy, TrainerCallback, TrainingArguments

from trainyard import experiment, inference, preview, skipped, zero
from trainyard.callbacks.bad_steps import BadSteps, Samples
from trainyard.callbacks.metrics import ProgressCallback, SpeedCallback
from trainyard.callbacks.record import DeepSpeedRecord
from trainyard.callbacks.samples import SamplesCallback
from trainyard.callbacks.spikes import SpikeCallback, Window
from trainyard.callbacks.stop import StopCallback, StoppedError
from trainyard.data.dataset import Collator, Datasets
from trainyard.data.loader import Split
from trainyard.metrics import MetricsFile, read_metrics
from trainyard.model import count_parameters, flops_per_token
from trainyard.saving import Saver, read_window
from trainyard.schema import Config, TrainerConfig
from trainyard.trainer import Trainer, count_steps, early_stopping, resolve_strategies
from trainyard.worker import Worker


@dataclass
class Run:
    """A Trainer that is ready, and the callbacks that are asked afterwards."""

    trainer: Trainer
    stop: StopCallback
    tracker: Any
    samples: SamplesCallback | None


def build(this: Worker, config: Config, args: TrainingArguments, model: Any, tokenizer: Any, datasets: Datasets) -> Run:
    """Assembles the Trainer; `args` must have been made before `model`, so that ZeRO-3 could partition it."""
    split = Split(
        rank=this.rank,
        world_size=this.world_size,
        micro_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
    )
    args.max_steps = count_steps(config.trainer, len(datasets.train))
    resolve_strategies(args, len(datasets.train), split.global_batch)
    if datasets.evaluation is None:  # a corpus of one document
        args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False
    window = read_window(this.resume, split) if this.resume else {}
    if this.resume is not None:
        args.eval_on_start = window.get("evaluation_due", False)
    tokens_per_step = round(split.global_batch * datasets.train.plan.tokens_per_sequence)
    stop = StopCallback(this)
    left_out = skipped.stretches(this.run_dir, window.get("skipped", []))
    in_order = Samples(datasets.train, split, config.run.seed, left_out)
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
            this.run_dir.example.write_text(preview.example(datasets.train, tokenizer, config), encoding="utf-8")
        tracker = _tracker(this, config, metrics.history)
        callbacks += [tracker] if tracker else []
        if tracker and samples:
            tracker.samples, samples.show = samples.kept, tracker.show
    trainer = Trainer(
        model,
        args,
        train_dataset=datasets.train,
        eval_dataset=datasets.evaluation,
        data_collator=collator(config, model),
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
    return Run(trainer, stop, tracker, samples)


def collator(config: Config, model: Any) -> Collator:
    """How batches are made for this model's attention.

    Raises:
        ValueError: documents are to be isolated, and the model takes no positions.
    """
    isolate = config.data.isolate_documents
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isolate and "position_ids" not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"data.isolate_documents=true: {type(model).__name__} takes no position_ids, by which documents are kept "
            f"apart; set it to false, or data.packing=padded"
        )
    attention = str(getattr(model.config, "_attn_implementation", ""))
    return Collator(config.data.block_size, isolate, flatten="flash" in attention)


def _spikes(this: Worker, trainer: TrainerConfig, stop: StopCallback, bad_steps: BadSteps) -> SpikeCallback:
    window = Window(trainer.spike_window, trainer.spike_deviations)
    return SpikeCallback(this, stop, bad_steps, window, roll_back=trainer.on_spike == "rollback")


def _saver(this: Worker, config: Config, split: Split, args: TrainingArguments, trainable: int) -> Saver:
    return Saver(
        this.run_dir.checkpoints,
        this,
        split,
        keep=args.save_total_limit,
        trainable=trainable,
        grace_period_s=config.launch.grace_period_s,
        layout=zero.layout(config),
        in_background=config.trainer.async_save,
    )


def _tracker(this: Worker, config: Config, history: list[dict[str, Any]]) -> Any:
    if config.tracking.backend is None or config.tracking.mode == "disabled":
        return None
    from trainyard.tracking import SwanLabCallback

    log_dir = Path(config.paths.outputs) / experiment.FOLDER
    return SwanLabCallback(experiment.Experiment(config, this.run_dir, log_dir), history, this.say)


def _samples(this: Worker, config: Config, tokenizer: Any, datasets: Datasets) -> SamplesCallback | None:
    if not config.tracking.samples or datasets.evaluation is None:
        return None
    return SamplesCallback(
        this.run_dir.samples if this.is_first else None,
        datasets.evaluation,
        tokenizer,
        inference.end_ids(tokenizer, config.data.template_variables),
        count=config.tracking.samples,
        max_new_tokens=config.tracking.sample_tokens,
        resume_step=this.resume_step if this.resume else None,
    )


def announce(this: Worker, config: Config, run: Run, datasets: Datasets) -> None:
    """What will be trained, on how much, in how many steps."""
    args, split = run.trainer.args, run.trainer.split
    total, trainable = count_parameters(run.trainer.model)
    block = config.data.block_size
    plan = datasets.train.plan
    per_step = round(split.global_batch * plan.tokens_per_sequence)
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    lines = [
        f"model      {total:,} parameters, {trainable:,} trainable ({trainable / total:.2%}), {precision}",
        f"batch      {split.global_batch} sequences = {per_step:,} tokens a step "
        f"({split.world_size} ranks x {split.micro_batch} sequences x {split.accumulation} accumulated)",
        f"data       {len(datasets.train):,} sequences of {block} tokens, {plan.fill:.2%} filled by "
        f"{config.data.packing}{', documents isolated' * config.data.isolate_documents}; "
        f"{len(datasets.evaluation or ()):,} held out; "
        f"{len(datasets.train) / split.global_batch:,.1f} steps per epoch",
        f"budget     {args.max_steps:,} steps = {args.max_steps * per_step:,} tokens "
        f"= {args.max_steps * split.global_batch / len(datasets.train):.2f} epochs",
    ]
    this.say("\n".join(lines))


def train(this: Worker, run: Run) -> None:
    """Trains from the checkpoint, if there is one, to the end or until the ranks are asked to stop."""
    try:
        run.trainer.train(resume_from_checkpoint=str(this.resume) if this.resume else None)
    except StoppedError:
        run.stop.stopped = True


def finish(this: Worker, run: Run) -> None:
    """Saves the model, or leaves it to the next start when the run was stopped, and reports the last figures."""
    this.note(now=True, phase="writing the checkpoint")
    run.trainer.saver.wait()
    if run.stop.stopped:
        if run.tracker:
            run.tracker.finish()
        this.note(now=True, phase="stopped", step=run.trainer.state.global_step)
        return
    if run.samples:
        this.note(now=True, phase="answering the sample prompts")
        run.samples.answer(run.trainer.model, run.trainer.state.global_step)
    this.note(now=True, phase="saving the model")
    run.trainer.require_finite_weights()
    target = this.run_dir.model
    staging = target.with_name(".model")
    if this.is_first:
        shutil.rmtree(staging, ignore_errors=True)
    dist.barrier()
    run.trainer.save_model(str(staging))
    dist.barrier()
    if this.is_first:
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle that names this machine's paths
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        if run.tracker:
            run.tracker.finish()
    this.note(now=True, phase="done", step=run.trainer.state.global_step, final=final_metrics(this))


def final_metrics(this: Worker) -> dict[str, float]:
    """The last value of every metric of the run, and the first of the losses as first_<name>."""
    rows = read_metrics(this.run_dir.metrics)
    final: dict[str, float] = {}
    for row in rows:
        final |= {key: value for key, value in row.items() if key not in ("step", "ranks")}
    for name in ("loss", "eval_loss", "eval_perplexity"):
        values = [row[name] for row in rows if name in row]
        if values:
            final[f"first_{name}"] = values[0]
    return final
