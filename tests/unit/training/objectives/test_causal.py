"""The causal loss: a sum over learned tokens divided by the count of the step, the same as the library's."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainyard.training.objectives.causal import CausalLoss

IGNORED = -100


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=12, **size)).eval()


def batch() -> dict[str, torch.Tensor]:
    """Of two rows of four tokens three are learned; the first label of a row counts for nothing."""
    return {
        "input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]),
        "labels": torch.tensor([[1, IGNORED, 3, 4], [5, 6, IGNORED, IGNORED]]),
    }


def test_items_are_the_tokens_that_are_predicted() -> None:
    assert CausalLoss().items(batch()).item() == 3


def test_the_loss_is_the_sum_over_learned_tokens_divided_by_the_count(model: Any) -> None:
    counted = {**batch(), "num_items_in_batch": torch.tensor(7.0)}
    loss, metrics = CausalLoss()(model, counted)
    odds = model(batch()["input_ids"]).logits.log_softmax(-1)
    wanted = -(odds[0, 1, 3] + odds[0, 2, 4] + odds[1, 0, 6]) / 7
    torch.testing.assert_close(loss, wanted)
    assert metrics == {}
    mean, _ = CausalLoss()(model, batch())
    torch.testing.assert_close(mean, wanted * 7 / 3)


def test_every_bit_is_that_of_the_model(model: Any) -> None:
    counted = {**batch(), "num_items_in_batch": torch.tensor(7.0)}
    assert CausalLoss()(model, counted)[0].equal(model(**counted).loss)


@pytest.mark.parametrize("shape", [(0, 4), (1, 0)])
def test_a_batch_without_a_token_still_runs_the_model(model: Any, shape: tuple[int, int]) -> None:
    """One row of no token is what a batch for FlashAttention looks like."""
    nothing = torch.zeros(shape, dtype=torch.int64)
    empty = {"input_ids": nothing, "labels": nothing, "position_ids": nothing, "num_items_in_batch": torch.ones(())}
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    loss, _ = CausalLoss()(model, empty)
    handle.remove()
    assert calls == [1] and loss.isfinite()
    assert CausalLoss().items(empty).item() == 0


def test_labels_are_smoothed_in_training_alone(model: Any) -> None:
    counted = {**batch(), "num_items_in_batch": torch.tensor(3.0)}
    plain = CausalLoss()(model, counted)[0]
    assert CausalLoss(0.3)(model, counted)[0].equal(plain)
    model.train()
    smoothed = CausalLoss(0.3)(model, counted)[0]
    model.eval()
    odds = model(batch()["input_ids"]).logits.log_softmax(-1)
    spread = -(odds[0, 1] + odds[0, 2] + odds[1, 0]).mean() / 3
    torch.testing.assert_close(smoothed, 0.7 * plain + 0.3 * spread)


def test_perplexity_follows_from_the_loss_and_stays_a_number() -> None:
    assert CausalLoss().derived(2.0) == {"perplexity": math.exp(2.0)}
    assert CausalLoss().derived(1e6) == {"perplexity": math.exp(700.0)}
