"""Optimizers that ZeRO makes another algorithm, or that no run could resume."""

from pathlib import Path

import pytest

from trainyard.checks.optimizers import optimizer_problems
from unit.checking import resolved


@pytest.mark.parametrize(
    ("name", "under_zero", "alone"),
    [
        ("adamw_torch", "", ""),
        ("adamw_torch_8bit", "", ""),
        ("lion_8bit", "", ""),
        ("sgd", "", ""),
        ("adafactor", "its row and column means need whole matrices, and ZeRO hands it flat pieces", ""),
        ("stable_adamw", "another algorithm; set deepspeed=none, or take trainer.optim=adamw_torch", ""),
        ("grokadamw", "another algorithm", ""),
        ("adagrad", "fails under ZeRO, its states are made before", ""),
        ("schedule_free_adamw", "fails under ZeRO, the weights of its evaluations are never gathered", ""),
        ("galore_adamw", "its states cannot be loaded again", "its states cannot be loaded again"),
        ("apollo_adamw_layerwise", "no checkpoint could be resumed", "no checkpoint could be resumed"),
        ("lomo", "a resumed run would not be the same", "a resumed run would not be the same"),
        ("adamw_torch_npu_fused", "it needs an NPU", "it needs an NPU"),
    ],
)
def test_an_optimizer_is_refused_where_it_does_something_else(
    tmp_path: Path, name: str, under_zero: str, alone: str
) -> None:
    for backend, wanted in (("zero2", under_zero), ("zero3", under_zero), ("none", alone)):
        problems = list(optimizer_problems(resolved(tmp_path, f"trainer.optim={name}", f"deepspeed={backend}")))
        assert len(problems) == (1 if wanted else 0)
        assert all(each.startswith(f"trainer.optim={name}: ") and wanted in each for each in problems)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.optim=sgd", 'trainer.optim_args="momentum=0.9,nesterov=true"'], ""),
        (["trainer.optim=sgd", 'trainer.optim_args="momentun=0.9"'], "sgd has no momentun, it takes momentum, "),
        (["trainer.optim=sgd", "trainer.optim_args=momentum"], "must be pairs, as 'trainer.optim_args=\"momentum=0.9,"),
        (['trainer.optim_args="momentum=0.9"'], "adamw_torch has no momentum, it takes none"),
        (["trainer.optim_target_modules=[q_proj]"], "only optimizers that are refused here read it"),
        (
            ["deepspeed=none", "trainer.optim=schedule_free_sgd", "trainer.load_best_model_at_end=true"],
            "may hold the weights of the training",
        ),
    ],
)
def test_settings_of_an_optimizer(tmp_path: Path, overrides: list[str], message: str) -> None:
    problems = list(optimizer_problems(resolved(tmp_path, *overrides)))
    assert len(problems) == (1 if message else 0)
    assert all(message in problem for problem in problems)
