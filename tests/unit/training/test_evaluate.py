"""The evaluation: a mean over items, whatever the batches are."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainyard.errors import StoppedError
from trainyard.training.evaluate import Evaluator


class Squares:
    """The mean square of a batch of numbers, with their mean as its metric."""

    def __call__(self, model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        numbers = batch["numbers"]
        divisor = batch.get("num_items_in_batch", len(numbers))
        return (numbers**2).sum() / divisor, {"size": numbers.sum() / divisor}

    def items(self, batch: dict[str, Any]) -> torch.Tensor:
        return torch.tensor(len(batch["numbers"]))

    def derived(self, loss: float) -> dict[str, float]:
        return {"root": loss**0.5}


def evaluate(batches: list[list[float]], *, takes_count: bool, stop_at: int = -1) -> dict[str, float]:
    asked: list[int] = []
    rank: Any = SimpleNamespace(note=lambda **_: None)
    evaluator = Evaluator(Squares(), rank, lambda: asked.append(1) or len(asked) - 1 == stop_at)  # type: ignore[func-returns-value]
    model = torch.nn.Linear(1, 1)
    found = evaluator.run(model, batches, lambda each: {"numbers": torch.tensor(each)}, takes_count=takes_count)
    assert len(asked) == len(batches) and not model.training
    return found


@pytest.mark.parametrize("takes_count", [True, False])
def test_every_item_counts_the_same_and_an_empty_batch_nothing(one_rank: None, takes_count: bool) -> None:
    """Without the count the empty batch's mean is not a number, and still nothing."""
    found = evaluate([[1.0, 2.0, 3.0], [6.0], []], takes_count=takes_count)
    assert found == {"loss": 12.5, "root": 12.5**0.5, "size": 3.0}


def test_the_ranks_leave_between_batches(one_rank: None) -> None:
    with pytest.raises(StoppedError):
        evaluate([[1.0], [2.0]], takes_count=True, stop_at=1)
