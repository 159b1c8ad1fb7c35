"""trainyard.training.finish."""

import shutil

import torch.distributed as dist

from trainyard.config.schema import Config
from trainyard.data.batches.dataset import Datasets
from trainyard.errors import StoppedError
from trainyard.model.size import count_parameters
from trainyard.rundir.metrics import read_metrics
from trainyard.rundir.rank import Rank
from trainyard.training.build import Training


def announce(this: Rank, config: Config, run: Training, datasets: Datasets) -> None:
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


def train(this: Rank, run: Training) -> None:
    """Trains from the checkpoint, if there is one, to the end or until the ranks are asked to stop."""
    try:
        run.trainer.train(resume_from_checkpoint=str(this.resume) if this.resume else None)
    except StoppedError:
        run.stop.stopped = True


def finish(this: Rank, run: Training) -> None:
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


def final_metrics(this: Rank) -> dict[str, float]:
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
