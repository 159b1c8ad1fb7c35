"""The number of steps, and the intervals that follow from the data."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import IntervalStrategy
from transformers.trainer_utils import SaveStrategy

from trainyard.config.schema import TrainerConfig
from trainyard.training.arguments import count_steps, early_stopping, resolve_strategies


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
    assert count_steps(TrainerConfig(global_batch_size=8, **settings), 100) == steps


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
