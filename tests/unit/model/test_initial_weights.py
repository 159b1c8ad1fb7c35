"""First weights from the seed and the names of the modules alone."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers import initialization as hf_initialization

from trainyard.model.initial_weights import initialize


def weights(seed: int, layers: int = 2, tied: bool = False) -> dict[str, torch.Tensor]:
    size = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=40, num_hidden_layers=layers, tie_word_embeddings=tied, **size)
    with hf_initialization.no_init_weights():
        model: Any = AutoModelForCausalLM.from_config(config)
    initialize(model, seed)
    return model.state_dict()


def test_a_seed_decides_every_weight_and_draws_nothing_from_outside() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = weights(5)
    assert torch.rand(3).equal(expected)
    again, other = weights(5), weights(6)
    assert len(one) > 15
    assert all(one[name].equal(again[name]) for name in one)
    changed = [name for name in one if not one[name].equal(other[name])]
    assert changed and all("norm" in name for name in one.keys() - set(changed))


def test_a_module_keeps_its_weights_when_others_come_before_it() -> None:
    """The weights of two layers are the first of four, and the output layer is the same."""
    two, four = weights(5), weights(5, layers=4)
    assert all(two[name].equal(four[name]) for name in two)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_spread_as_the_architecture_wants(tied: bool) -> None:
    for name, weight in weights(5, tied=tied).items():
        assert weight.isfinite().all()
        assert weight.eq(1).all() if "norm" in name else 0.005 < weight.std() < 0.05, name
