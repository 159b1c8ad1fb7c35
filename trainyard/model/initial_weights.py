"""First weights of a model from scratch, the same under every world size and ZeRO stage."""

import contextlib
from collections.abc import Iterator

import torch
import xxhash
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled


@torch.no_grad()
def initialize(model: PreTrainedModel, seed: int) -> None:
    """Draws every weight by the architecture's own rule, in place, from (seed, name of the module) alone.

    No draw depends on an earlier one. Under ZeRO-3 each module is gathered, set and partitioned again, so the weights
    are the same under every world size and stage. The random state of the process stays as it was.
    """
    state = torch.random.get_rng_state()
    model.tie_weights()
    done: set[int] = set()
    for name, module, owner in _modules(model, "", model):
        parameters = list(module.parameters(recurse=False))
        if parameters and done.issuperset(map(id, parameters)):
            continue  # an output layer tied to the embeddings has its weights already
        done.update(map(id, parameters))
        for child in module.children():  # an architecture may set its children's weights from the parent
            if not isinstance(child, PreTrainedModel):
                parameters.extend(child.parameters(recurse=False))
        with gathered(parameters):
            torch.manual_seed(xxhash.xxh3_64_intdigest(f"{seed} {name}".encode()) & (2**63 - 1))
            owner._init_weights(module)
    torch.random.set_rng_state(state)


def _modules(module: nn.Module, name: str, owner: PreTrainedModel) -> Iterator[tuple[str, nn.Module, PreTrainedModel]]:
    """Children before parents, each with the nearest PreTrainedModel around it, which knows how to initialize it."""
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        yield from _modules(child, path, child if isinstance(child, PreTrainedModel) else owner)
    yield name, module, owner


def gathered(parameters: list[nn.Parameter]) -> contextlib.AbstractContextManager[None]:
    """Within the context every rank has the whole parameters; what rank 0 writes to them is kept."""
    if not parameters or not is_deepspeed_zero3_enabled():
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)
