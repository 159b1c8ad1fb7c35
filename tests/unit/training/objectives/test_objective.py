"""The contract of an objective, and the causal loss held against it."""

import inspect
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainyard.training.objectives.causal import CausalLoss
from trainyard.training.objectives.objective import Objective

CAUSAL: Objective = CausalLoss()


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=12, **size)).eval()


def test_the_causal_loss_offers_the_three_calls() -> None:
    for name in ("__call__", "items", "derived"):
        offered, wanted = (inspect.signature(getattr(kind, name)).parameters for kind in (CausalLoss, Objective))
        assert list(offered) == list(wanted), name


def test_a_global_batch_has_one_mean_however_it_is_divided(model: Any) -> None:
    """Rows with 3, 1 and 2 items: as one micro batch, or in two."""
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 1]])
    labels = torch.tensor([[1, 2, 3, 4], [-100, -100, -100, 8], [9, 10, -100, 1]])
    count = CAUSAL.items({"input_ids": ids, "labels": labels})
    assert (count.item(), count.dtype) == (6, torch.int64)

    def loss(rows: slice) -> torch.Tensor:
        return CAUSAL(model, {"input_ids": ids[rows], "labels": labels[rows], "num_items_in_batch": count.float()})[0]

    whole = loss(slice(0, 3))
    torch.testing.assert_close(loss(slice(0, 1)) + loss(slice(1, 3)), whole)
    odds = model(ids).logits.log_softmax(-1)
    places = [(0, 0, 2), (0, 1, 3), (0, 2, 4), (1, 2, 8), (2, 0, 10), (2, 2, 1)]
    torch.testing.assert_close(whole, -torch.stack([odds[place] for place in places]).mean())
