"""trainyard.model.size."""

from typing import Any

from torch import nn


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters in all and trainable ones, tied weights once; under ZeRO-3 the whole ones, not this rank's share."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def flops_per_token(model: Any, block_size: int) -> float:
    """Floating-point operations to train on one token: 6 N + 12 L d T (Chowdhery et al., PaLM, 2022, appendix B).

    N leaves out the input embeddings, a lookup, unless they serve as the output layer too.
    """
    total, _ = count_parameters(model)
    config = model.config.get_text_config()
    if not config.tie_word_embeddings:
        total -= config.vocab_size * config.hidden_size
    return float(6 * total + 12 * config.num_hidden_layers * config.hidden_size * block_size)
