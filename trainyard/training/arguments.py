"""transformers.TrainingArguments from a config, and the arguments that follow from the data."""

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from trainyard.checkpoint.restore import is_universal
from trainyard.config import deepspeed
from trainyard.config.schema import Config, TrainerConfig
from trainyard.config.training_arguments import given_arguments
from trainyard.data.batches.loader import BatchLayout
from trainyard.training.callbacks.early_stopping import EarlyStopping


def build_arguments(config: Config, output_dir: Path, resume: Path | None) -> TrainingArguments:
    """TrainingArguments from the settings of the same names. From now on ZeRO-3 partitions models while they are built.

    Args:
        resume: the checkpoint that will be loaded.

    Raises:
        ValueError: from TrainingArguments itself, for values that contradict each other.
    """
    given = given_arguments(config.trainer)
    given.pop("save_total_limit", None)  # for the saver alone: the library deletes what is being written
    steps = {"logging_steps", "save_steps", "eval_steps"} & given.keys()
    given |= {name: int(given[name]) for name in steps if given[name] >= 1}
    if config.data.eval_fraction == 0:
        given |= {"eval_strategy": "no", "eval_on_start": False}
    chooses = config.trainer.early_stopping_patience or config.trainer.load_best_model_at_end
    if chooses or config.trainer.save_strategy == "best":
        given |= {"metric_for_best_model": given.get("metric_for_best_model", "eval_loss"), "greater_is_better": False}
    values = None
    if config.deepspeed.config is not None:
        values = deepspeed.complete(deepspeed.read(config.deepspeed.config), on_gpu=torch.cuda.is_available())
        if resume is not None and is_universal(resume):
            values["checkpoint"] = values.get("checkpoint", {}) | {"load_universal": True}
    return TrainingArguments(
        **given,
        output_dir=str(output_dir),
        deepspeed=values,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="nccl" if torch.cuda.is_available() else "gloo",
        ddp_timeout=int(config.launch.timeout_s),
        seed=config.run.seed,
        disable_tqdm=True,
        report_to="none",
        ignore_data_skip=True,  # our loader starts at the right position
        remove_unused_columns=False,
        logging_nan_inf_filter=False,  # a NaN must be seen, and the filter synchronises every micro batch
    )


def judge(args: TrainingArguments) -> str | None:
    """The metric that compares evaluations, as eval_loss; None when nothing compares them."""
    name = args.metric_for_best_model
    return name if name is None or name.startswith("eval_") else f"eval_{name}"


def count_steps(trainer: TrainerConfig, num_samples: int, batch_layout: BatchLayout) -> int:
    """Optimizer steps of the run: max_steps, or as many as it takes to see every sample num_train_epochs times."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    total, global_batch = trainer.num_train_epochs * num_samples, batch_layout.global_batch
    if batch_layout.samples_before(0) == 0:  # every step had this global batch
        return math.ceil(total / global_batch)
    return batch_layout.first_step + max(0, math.ceil((total - batch_layout.first_sample) / global_batch))


def resolve_strategies(args: TrainingArguments, num_samples: int, global_batch: int) -> None:
    """Turns the strategy `epoch` into steps, in place: our loader is one stream without the end of an epoch."""
    per_epoch = max(1, math.ceil(num_samples / global_batch))
    for what in ("logging", "eval", "save"):
        if getattr(args, f"{what}_strategy") == "epoch":
            setattr(args, f"{what}_strategy", type(getattr(args, f"{what}_strategy"))("steps"))
            setattr(args, f"{what}_steps", per_epoch)


def early_stopping(trainer: TrainerConfig) -> list[EarlyStopping]:
    """The callback that ends a run whose evaluations improve no more, when it is asked for."""
    if not trainer.early_stopping_patience:
        return []
    return [EarlyStopping(trainer.early_stopping_patience, trainer.early_stopping_threshold)]
