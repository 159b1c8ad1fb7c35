"""Parameters and operations of a tiny model, counted by hand."""

from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from trainyard.model.size import count_parameters, flops_per_token

HIDDEN, FEED, VOCABULARY, LAYERS = 8, 12, 40, 2
LAYER = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * FEED + 2 * HIDDEN  # attention, feed-forward, two norms
BODY = LAYERS * LAYER + HIDDEN  # and the last norm


def network(tied: bool) -> Any:
    size = {"hidden_size": HIDDEN, "intermediate_size": FEED, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=tied, **size))


@pytest.mark.parametrize(("tied", "tables"), [(True, 1), (False, 2)])
def test_tied_weights_count_once(tied: bool, tables: int) -> None:
    model = network(tied)
    total = BODY + tables * VOCABULARY * HIDDEN
    assert count_parameters(model) == (total, total)
    model.model.requires_grad_(False)
    assert count_parameters(model) == (total, 0 if tied else VOCABULARY * HIDDEN)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_counts_and_the_lookup_does_not(tied: bool) -> None:
    weights = BODY + VOCABULARY * HIDDEN
    assert flops_per_token(network(tied), block_size=16) == 6 * weights + 12 * LAYERS * HIDDEN * 16
