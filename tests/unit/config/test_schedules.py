from pathlib import Path

import pytest

from trainyard.config import schedules
from trainyard.config.training_arguments import argument_fields
from unit.checking import found, only


def test_every_schedule_is_read_from_the_source() -> None:
    import inspect

    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR

    assert set(schedules.parameters()) == set(argument_fields()["lr_scheduler_type"].choices)
    checked = 0
    for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        name = kind.value
        function = {"greedy": GreedyLR, "reduce_lr_on_plateau": ReduceLROnPlateau}.get(name, function)
        real = set(inspect.signature(function).parameters) - {
            "optimizer",
            "num_warmup_steps",
            "num_training_steps",
            "last_epoch",
        }
        assert set(schedules.parameters()[name]) == (set() if name in schedules.WITHOUT else real)
        checked += 1
    assert checked >= 12


NEEDS = {
    "cosine_with_min_lr": "min_lr_rate: 0.1",
    "cosine_warmup_with_min_lr": "min_lr: 1e-5",
    "warmup_stable_decay": "num_decay_steps: 9",
}


@pytest.mark.parametrize("name", sorted(schedules.parameters()))
def test_a_schedule_is_complete_or_refused(tmp_path: Path, name: str) -> None:
    asked = f"trainer.lr_scheduler_type={name}"
    if name in NEEDS:
        assert only(tmp_path, asked).startswith(f"{asked}: needs ")
        assert found(tmp_path, asked, f"trainer.lr_scheduler_kwargs={{{NEEDS[name]}}}") == []
    else:
        assert found(tmp_path, asked) == []
    misspelled = "trainer.lr_scheduler_kwargs.min_lr_rat"
    (message,) = (each for each in found(tmp_path, asked, f"{misspelled}=0.1") if "min_lr_rat=" in each)
    assert message.startswith(f"{misspelled}=0.1: {name} takes ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{min_lr: 1, min_lr_rate: 0.1}", "both min_lr and min_lr_rate are set"),
        ("{min_lr: 1}", "the end of the schedule lies above trainer.learning_rate=0.0015"),
        ("{min_lr_rate: 3}", "a share of trainer.learning_rate, from 0 to 1"),
        ("{min_lr_rate: nan}", "must be a finite number"),
        ("[0.1]", "must be a mapping, as {min_lr_rate: 0.1}"),
    ],
)
def test_a_value_of_a_schedule_that_cannot_be(tmp_path: Path, given: str, message: str) -> None:
    problems = found(tmp_path, "trainer.lr_scheduler_type=cosine_with_min_lr", f"trainer.lr_scheduler_kwargs={given}")
    assert any(message in problem for problem in problems)
    decay = ["trainer.lr_scheduler_type=warmup_stable_decay", "trainer.max_steps=5"]
    assert "at most trainer.max_steps=5" in only(tmp_path, *decay, "trainer.lr_scheduler_kwargs={num_decay_steps: 6}")
    ramp = "trainer.lr_scheduler_kwargs={num_decay_steps: 2, decay_type: cosin}"
    assert "must be one of linear, cosine, 1-sqrt" in only(tmp_path, *decay, ramp)


def test_a_schedule_by_a_metric_needs_evaluations(tmp_path: Path) -> None:
    for name in schedules.BY_METRIC:
        assert "follows the evaluations" in only(tmp_path, f"trainer.lr_scheduler_type={name}", "data.eval_fraction=0")
