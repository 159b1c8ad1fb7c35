"""The loss on its way into the backward pass, and the line about a bad step; real runs are in tests/faults."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.sequences.order import sample_indices
from trainyard.data.sequences.packing import concat
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.step_samples import StepSamples
from unit.stores import make_store

STARTS, LENGTHS = np.array([0, 50, 57]), np.array([50, 7, 43])
LAYOUT = BatchLayout(rank=0, world_size=1, micro_batch=2, accumulation=2)


@pytest.fixture
def samples(tmp_path: Path) -> StepSamples:
    store = make_store(tmp_path, [list(range(50)), list(range(50, 57)), list(range(57, 100))])
    dataset = TokenDataset(store, concat(STARTS, LENGTHS, 4, keep_tail=False))
    return StepSamples(dataset, LAYOUT, seed=3, skipped=[(4, 6)])


def bad_steps(samples: StepSamples) -> BadSteps:
    said: list[str] = []
    rank: Any = SimpleNamespace(say=said.append, said=said)
    stop: Any = SimpleNamespace(stopped=False)
    return BadSteps(rank, stop, samples, limit=3)


def backward(judge: BadSteps, values: list[float]) -> tuple[list[float], list[float]]:
    """The losses of a step as they go into the backward pass, and their gradients."""
    judge.on_step_begin(*[None] * 3)  # type: ignore[arg-type]
    weights = [torch.tensor(value, requires_grad=True) for value in values]
    losses = [judge.watch(weight * 3, 0.5, last=weight is weights[-1]) for weight in weights]
    for loss in losses:
        loss.backward()
    return [loss.item() for loss in losses], [weight.grad.item() for weight in weights]  # type: ignore[union-attr]


def test_a_good_step_keeps_every_bit(one_rank: None, samples: StepSamples) -> None:
    judge = bad_steps(samples)
    values = [0.1, 0.7]
    assert backward(judge, values) == ([(torch.tensor(value) * 3).item() for value in values], [3.0, 3.0])
    assert not judge.judge(overflow=False)
    assert judge.loss == pytest.approx(1.2)
    assert judge.judge(overflow=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_bad_loss_anywhere_in_a_step_becomes_a_bad_gradient(
    one_rank: None, samples: StepSamples, bad: float, place: int
) -> None:
    judge = bad_steps(samples)
    values = [0.5, 0.5]
    values[place] = bad
    assert math.isnan(backward(judge, values)[1][-1])
    assert judge.judge(overflow=False)


def test_a_bad_step_is_named_with_its_samples_and_documents(one_rank: None, samples: StepSamples) -> None:
    judge = bad_steps(samples)
    backward(judge, [0.5, math.nan])
    judge.judge(overflow=True)
    control = SimpleNamespace(should_save=True, should_evaluate=False, should_training_stop=False)
    state: Any = SimpleNamespace(global_step=2)
    judge.on_step_end(None, state, control)  # type: ignore[arg-type]
    # The second step has the places 4 to 7, of which the stretch 4-6 is taken out: the positions 6 to 9.
    documents = set()
    for index in sample_indices(np.array([8, 9]), len(samples.dataset), 3):
        first, last = index * 4, index * 4 + 3
        documents |= {int(np.searchsorted([50, 57, 100], token, side="right")) for token in range(first, last + 1)}
    named = ", ".join(map(str, sorted(documents)))
    line = f"step 2: the loss is nan on rank 0, samples 8 to 9 (documents {named})"
    assert judge.rank.said == [f"{line}; skipped on all ranks, 1 in a row"]  # type: ignore[attr-defined]
    assert judge.streak == [line]
    assert not control.should_save
    backward(judge, [0.5, 0.5])
    judge.judge(overflow=False)
    judge.on_step_end(None, state, control)  # type: ignore[arg-type]
    assert control.should_save and judge.streak == [] and judge.total == 1
