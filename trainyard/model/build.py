"""A model from its weights, or from its architecture with first weights that depend on the seed alone."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as hf_initialization

from trainyard.config import rope
from trainyard.config.schema import ARCHITECTURE, ModelConfig
from trainyard.model import generation
from trainyard.model.initial_weights import gathered, initialize


def build(
    model: ModelConfig,
    vocab_size: int,
    special_ids: dict[str, int | None],
    *,
    seed: int,
    own_vocab: bool,
    added: Sequence[int] = (),
    say: Callable[[str], None] = print,
) -> Any:
    """A causal language model in float32, partitioned while it is built when ZeRO-3 is on.

    Args:
        model: its path, or its architecture; `init` says whether weights are loaded.
        vocab_size: the number of ids that the tokenizer may yield.
        special_ids: bos_token_id, eos_token_id and pad_token_id of the tokenizer, for a model from scratch.
        seed: decides the weights of a model from scratch.
        own_vocab: size the embeddings of a model from scratch by the tokenizer instead of the architecture's config.
        added: ids of added tokens, which the pretrained weights do not know; they get rows of their own.
        say: is told what of the base's generation config had to be mended.

    Raises:
        ValueError: the tokenizer yields ids that pretrained embeddings do not have.
    """
    if model.init == "pretrained":
        return _pretrained(model, vocab_size, added, say)
    config = architecture(model)
    if own_vocab or config.vocab_size < vocab_size:
        config.vocab_size = vocab_size
    for name, value in special_ids.items():
        setattr(config, name, value)
    with hf_initialization.no_init_weights():
        scratch = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=model.trust_remote_code, **_attention(model)
        )
    initialize(scratch, seed)
    return scratch


def _pretrained(model: ModelConfig, vocab_size: int, added: Sequence[int], say: Callable[[str], None]) -> Any:
    readable, notes = generation.load(str(model.path))
    loaded = AutoModelForCausalLM.from_pretrained(
        model.path,
        config=architecture(model),
        **({"generation_config": readable} if readable else {}),
        dtype=torch.float32,
        attn_implementation=model.attn_implementation,
        trust_remote_code=model.trust_remote_code,
    )
    for note in [*notes, *generation.mend(loaded.generation_config)]:
        say(note)
    rows = loaded.config.vocab_size
    if vocab_size - len(added) > rows:
        raise ValueError(
            f"the tokenizer has {vocab_size} ids and the embeddings of {model.path} {rows} rows; "
            f"set tokenizer.path to the tokenizer that the model was trained with"
        )
    if added:
        add_rows(loaded, vocab_size, added)
    return loaded


def architecture(model: ModelConfig) -> Any:
    """The transformers config of a model: from its path or its type, then the settings that are set.

    A change of the rotary embeddings is merged over the base's own; see trainyard.config.rope.

    Raises:
        ValueError: a key of the rotary embeddings is unknown or missing.
    """
    given = {name: getattr(model, name) for name in ARCHITECTURE if getattr(model, name) is not None} | model.config
    plain = {name: value for name, value in given.items() if name not in rope.SPELLINGS}
    if model.path is None:
        found = AutoConfig.for_model(model.model_type, **plain)
    else:
        found = AutoConfig.from_pretrained(model.path, trust_remote_code=model.trust_remote_code)
    if not given or (model.path is None and len(plain) == len(given)):
        return found
    values = found.to_dict()
    if "num_hidden_layers" in given:  # layer_types has an entry per layer; transformers makes it for the new number
        values.pop("layer_types", None)
    if wanted := rope.asked(model.config):
        base = rope.of_config(values)
        if problems := list(rope.problems(model.config, base)):
            raise ValueError("; ".join(problems))
        plain["rope_parameters"] = rope.merged(base, wanted, getattr(found, "max_position_embeddings", None))
    return type(found).from_dict(values | plain)


@torch.no_grad()
def add_rows(model: PreTrainedModel, vocab_size: int, added: Sequence[int]) -> None:
    """Gives added ids rows in the embeddings and the output layer: the mean of the rows of the ids before them.

    A new token then starts as likely as an average one, and the others keep their odds among themselves (Hewitt, 2021,
    "Initializing new word embeddings for pretrained language models"). Rows that the model holds in reserve are used
    first.
    """
    if vocab_size > model.config.get_text_config().vocab_size:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        parameters = list(layer.parameters(recurse=False)) if layer else []
        with gathered(parameters):
            for rows in parameters:  # an output layer may have a bias
                rows[list(added)] = rows[: min(added)].float().mean(0).to(rows.dtype)


def _attention(model: ModelConfig) -> dict[str, str]:
    return {"attn_implementation": model.attn_implementation} if model.attn_implementation else {}
