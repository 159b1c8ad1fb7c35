"""The number of steps, and the intervals that follow from the data."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import IntervalStrategy
from transformers.trainer_utils import SaveStrategy

from trainyard.config.schema import Config, TrainerConfig
from trainyard.data.batches.loader import BatchLayout
from trainyard.training import arguments
from trainyard.training.arguments import count_steps, early_stopping, judge, resolve_strategies

LAYOUT = BatchLayout(rank=0, world_size=1, micro_batch=8, accumulation=1)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 7, "num_train_epochs": 100.0}, 7),
        ({"num_train_epochs": 1.0}, 13),  # 100 / 8 = 12.5
        ({"num_train_epochs": 2.0}, 25),
        ({"num_train_epochs": 0.08}, 1),
    ],
)
def test_the_steps_of_a_run_of_100_samples(settings: dict[str, Any], steps: int) -> None:
    assert count_steps(TrainerConfig(global_batch_size=8, **settings), 100, LAYOUT) == steps


@pytest.mark.parametrize(
    ("epochs", "first_step", "first_sample", "steps"),
    [
        (2.0, 10, 80, 25),  # as before
        (2.0, 10, 160, 15),  # 40 of 200 are left, 8 a step, after ten steps of 16
        (2.0, 10, 40, 30),
        (2.0, 10, 37, 31),
        (0.1, 10, 160, 10),  # nothing is left
        (0.3, 3, 24, 4),
    ],
)
def test_a_run_whose_global_batch_changed_takes_as_many_steps_as_its_samples_need(
    epochs: float, first_step: int, first_sample: int, steps: int
) -> None:
    layout = replace(LAYOUT, first_step=first_step, first_sample=first_sample)
    assert count_steps(TrainerConfig(global_batch_size=8, num_train_epochs=epochs), 100, layout) == steps


@pytest.mark.parametrize("limit", [None, 1, 3])
def test_checkpoints_are_deleted_by_us_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """The library would delete them at the end of a training too, those included that are being written."""
    monkeypatch.setattr(arguments, "TrainingArguments", lambda **given: given)
    config = Config(stage="pretrain", trainer=TrainerConfig(save_total_limit=limit, load_best_model_at_end=True))
    given: Any = arguments.build_arguments(config, tmp_path, None)
    assert given["load_best_model_at_end"] and "save_total_limit" not in given


def test_evaluations_are_compared_by_the_name_that_they_have() -> None:
    args: Any = SimpleNamespace(metric_for_best_model=None)
    assert judge(args) is None
    for name in ("loss", "eval_loss"):
        args.metric_for_best_model = name
        assert judge(args) == "eval_loss"


def test_an_epoch_becomes_a_number_of_steps() -> None:
    args: Any = SimpleNamespace(
        logging_strategy=IntervalStrategy.STEPS,
        logging_steps=5,
        eval_strategy=IntervalStrategy.EPOCH,
        eval_steps=None,
        save_strategy=SaveStrategy.EPOCH,
        save_steps=500,
    )
    resolve_strategies(args, num_samples=100, global_batch=8)
    assert (args.logging_strategy, args.logging_steps) == (IntervalStrategy.STEPS, 5)
    assert (args.eval_strategy, args.eval_steps) == (IntervalStrategy.STEPS, 13)
    assert (args.save_strategy, args.save_steps) == (SaveStrategy.STEPS, 13)


def test_early_stopping_is_there_when_it_is_asked_for() -> None:
    assert early_stopping(TrainerConfig()) == []
    (callback,) = early_stopping(TrainerConfig(early_stopping_patience=3, early_stopping_threshold=0.5))
    assert (callback.early_stopping_patience, callback.early_stopping_threshold) == (3, 0.5)  # type: ignore[attr-defined]
