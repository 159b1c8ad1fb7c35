"""The loss curve does not depend on ZeRO stage and number of ranks, at the same global batch and seed."""

from pathlib import Path

import pytest
import torch
from conftest import Finished
from disturb import Warm

VARIANTS = [("zero2", 1), ("zero3", 2), ("zero3", 1), ("none", 2), ("none", 1)]


@pytest.mark.parametrize(("deepspeed", "ranks"), VARIANTS)
def test_same_curve_as_zero2_on_two_ranks(
    zero2_run: Finished, warm: Warm, corpus: Path, deepspeed: str, ranks: int
) -> None:
    run = warm(f"{deepspeed}-{ranks}", corpus, f"deepspeed={deepspeed}", f"launch.num_devices={ranks}")
    assert run.code == 0, run.stdout + run.stderr
    assert run.status["world_size"] == ranks
    assert len(run.series("loss")) == 20
    assert run.series("loss") == pytest.approx(zero2_run.series("loss"), rel=1e-4)
    assert len(run.series("eval_loss")) == 3  # before the first step, at 10 and at 20
    assert run.series("eval_loss") == pytest.approx(zero2_run.series("eval_loss"), rel=1e-4)
    assert run.series("loss")[-1] < 0.95 * run.series("loss")[0]  # the model has learned
    assert run.weights.keys() == zero2_run.weights.keys()
    for name, tensor in zero2_run.weights.items():
        assert torch.allclose(run.weights[name], tensor, rtol=1e-3, atol=1e-4), name
