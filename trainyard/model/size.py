"""The size of a model in parameters and in floating-point operations."""

from typing import Any

from torch import nn


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """The number of all parameters and of trainable ones, over all ranks. Tied weights count once."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def flops_per_token(model: Any, block_size: int) -> float:
    """Floating-point operations to train on one token: 6 N + 12 L d T (Chowdhery et al., PaLM, 2022, appendix B).

    N is the number of parameters, without the input embeddings, which are a lookup, unless they serve as the output
    layer too. L is the number of layers, d the hidden size, T the block size.
    """
    total, _ = count_parameters(model)
    config = model.config.get_text_config()
    if not config.tie_word_embeddings:
        total -= config.vocab_size * config.hidden_size
    return float(6 * total + 12 * config.num_hidden_layers * config.hidden_size * block_size)
