"""What comes before and after the training itself: the announcement, the saved model, the last figures."""

import shutil
from typing import Any

import torch.distributed as dist

from trainyard.config.schema import Config
from trainyard.data.batches.dataset import Datasets
from trainyard.data.preparation import notes
from trainyard.data.sequences.plans import left_out
from trainyard.errors import StoppedError
from trainyard.model.size import count_parameters
from trainyard.rundir.messages import Phase
from trainyard.rundir.metrics import History
from trainyard.rundir.rank import Rank
from trainyard.training.build import Training


def announce(this: Rank, config: Config, training: Training, datasets: Datasets) -> None:
    """Says what is trained, on how much data, in how many steps."""
    args, batch_layout = training.trainer.args, training.trainer.batch_layout
    total, trainable = count_parameters(training.trainer.model)
    block = config.data.sequence_length
    plan = datasets.train.plan
    samples = training.callbacks.bad_steps.samples
    per_step = samples.tokens_per_step
    ranks = f"{batch_layout.world_size} rank{'s' * (batch_layout.world_size != 1)}"
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    lines = [
        f"model      {total:,} parameters, {trainable:,} trainable ({trainable / total:.2%}), {precision}",
        f"batch      {batch_layout.global_batch} sequences = {per_step:,} tokens a step "
        f"({ranks} x {batch_layout.micro_batch} sequences x {batch_layout.accumulation} accumulated)",
        f"data       {len(datasets.train):,} sequences of {block} tokens, {plan.fill:.2%} filled by "
        f"{config.data.packing}{', documents isolated' * config.data.isolate_documents}; "
        f"{len(datasets.evaluation or ()):,} held out; "
        f"{len(datasets.train) / batch_layout.global_batch:,.1f} steps per epoch",
        *_lengths(config, datasets),
        f"budget     {args.max_steps:,} steps = {samples.tokens_seen(args.max_steps):,} tokens "
        f"= {samples.epochs(args.max_steps):.2f} epochs",
    ]
    lines += [f"note       {line}" for line in notes.lines(config.data.sources, datasets.train.store.summary.sources)]
    if batch_layout.first_sample != batch_layout.first_step * batch_layout.global_batch:
        lines.append(
            f"goes on    from step {batch_layout.first_step:,}, after {batch_layout.first_sample:,} sequences: "
            f"earlier steps had another number than {batch_layout.global_batch}"
        )
    this.say("\n".join(lines))


def _lengths(config: Config, datasets: Datasets) -> list[str]:
    """How many conversations are shortened or left out, at every start."""
    store = datasets.train.store
    if not store.masked:
        return []
    found = left_out([each.plan for each in (datasets.train, datasets.evaluation) if each is not None], store)
    return [f"lengths    {found} by data.block_size={config.data.block_size}, truncation={config.data.truncation}"]


def train(this: Rank, training: Training) -> None:
    """Trains from the checkpoint, if there is one, to the end or until the ranks are asked to stop."""
    try:
        training.trainer.train(resume_from_checkpoint=str(this.resume) if this.resume else None)
    except StoppedError:
        training.callbacks.stop.stopped = True


def finish(this: Rank, training: Training) -> None:
    """Saves the model and reports the last figures. A run that was stopped leaves both to its next start.

    Raises:
        FinalError: a weight is NaN or infinite, or the last checkpoint could not be written.
    """
    trainer, generations = training.trainer, training.callbacks.generations
    this.note(now=True, phase=Phase.WRITING)
    trainer.saver.wait()
    if training.callbacks.stop.stopped:
        _close_tracker(training)
        this.note(now=True, phase=Phase.STOPPED, step=trainer.state.global_step)
        return
    take_evaluation_point(trainer.optimizer)
    if generations:
        this.note(now=True, phase=Phase.ANSWERING)
        generations.answer(trainer.model, trainer.state.global_step)
    this.note(now=True, phase=Phase.SAVING_MODEL)
    _save_model(this, training)
    _close_tracker(training)
    step, model_step = trainer.state.global_step, trainer.model_step
    final = final_metrics(this, model_step)
    this.note(now=True, phase=Phase.DONE, step=step, model_step=model_step, final=final)


def take_evaluation_point(optimizer: Any) -> None:
    """Sets the weights to the average that a schedule-free optimizer evaluates, where it is one of these.

    Between two steps it keeps the weights elsewhere, at the point from which it computes gradients. The library
    switches before an evaluation and back after it, and not before the model is saved.
    """
    if callable(switch := getattr(optimizer, "eval", None)):
        switch()


def _save_model(this: Rank, training: Training) -> None:
    """Collective. The model takes its place by a rename, when all of it is written."""
    trainer, target = training.trainer, this.run_dir.model
    trainer.require_finite_weights()
    staging = target.with_name(".model")
    if this.is_first:
        shutil.rmtree(staging, ignore_errors=True)
    dist.barrier()
    trainer.save_model(str(staging))
    dist.barrier()
    if this.is_first:
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)


def _close_tracker(training: Training) -> None:
    if training.callbacks.tracker:
        training.callbacks.tracker.finish()


def final_metrics(this: Rank, model_step: int) -> dict[str, float]:
    """The last value of every metric up to the step of the saved model, and the first of each loss as first_<name>."""
    final: dict[str, float] = {}
    first: dict[str, float] = {}
    for row in History(this.run_dir.metrics):
        first = {f"first_{name}": row[name] for name in ("loss", "eval_loss", "eval_perplexity") if name in row} | first
        if row["step"] <= model_step:
            final |= {key: value for key, value in row.items() if key not in ("step", "ranks")}
    return final | first
