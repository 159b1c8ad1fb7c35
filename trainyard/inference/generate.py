"""Answers of a trained model: its prompt has the ids of the training, and it stops where it learned to stop.

Prompts are token ids, so that the same function serves plain text and conversations.
"""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jinja2.exceptions import TemplateError
from transformers import GenerationConfig

from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.encode import ConversationEncoder, cut_at_answers
from trainyard.data.conversations.fragments import Rendered
from trainyard.data.conversations.template import ChatTemplate
from trainyard.errors import ConversationError, DataError
from trainyard.model.adapters import without_adapters


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many tokens an answer may have."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability (Holtzman et al., 2020)."""
    seed: int | None = None
    """Decides an answer together with its prompt; None draws another answer every time."""


class Answer(NamedTuple):
    """What the model says to a prompt."""

    text: str
    """Without the token that ends it."""
    finished: bool
    """The model ended it itself; False when the limit cut it."""


def end_ids(tokenizer: Any, variables: dict[str, Any] | None = None, model: Any = None) -> list[int]:
    """The ids that end an answer, ascending: end-of-text, the tokens by which the chat template closes turns and calls,
    and those at which the model stops already.
    """
    ids = {tokenizer.eos_token_id}
    if model is not None:
        known = without_adapters(model).generation_config.eos_token_id
        ids.update(known if isinstance(known, list) else [] if known is None else [known])
    with contextlib.suppress(ConversationError):  # there is no template, or it closes turns with plain text
        ids.update(tokenizer.convert_tokens_to_ids(list(ChatTemplate(tokenizer, variables=variables).ends)))
    return sorted(ids)


def encode(
    tokenizer: Any,
    prompt: str | list[Message],
    *,
    tools: list[Any] | None = None,
    variables: dict[str, Any] | None = None,
) -> list[int]:
    """A prompt as ids: plain text as in pretraining, messages by the tokenizer's chat template as in fine-tuning.

    Text that spells a special token stays text.

    Raises:
        DataError: the chat template does not take the messages, the prompt is empty, or text in it became a special
            token.
    """
    if isinstance(prompt, str):
        ids = tokenizer(prompt, split_special_tokens=True)["input_ids"]
        if not ids:
            raise DataError("the prompt is empty; the model needs a token to go on from")
        return list(ids)
    variables = variables or {}
    try:
        rendered = _rendered(tokenizer, prompt, tools, variables)
        if rendered is None or _encoder(tokenizer, len(tokenizer)).mismatch([rendered]):
            # Training refuses such a template or tokenizer, so there are no ids of a training to match.
            settings = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
            return list(tokenizer.apply_chat_template(prompt, tools=tools, **settings, **variables))
    except (ConversationError, TemplateError, ValueError, TypeError, LookupError) as error:
        reason = str(error).removeprefix("the chat template does not take it: ")
        raise DataError(f"the chat template does not take the conversation: {reason}") from error
    return [int(token) for token in _encoder(tokenizer, len(tokenizer))([rendered]).ids]


def _rendered(tokenizer: Any, messages: list[Message], tools: Any, variables: dict[str, Any]) -> Rendered | None:
    """The conversation up to the next answer, cut at earlier answers as in training.

    None when the template cannot be used in training.
    """
    try:
        template = ChatTemplate(tokenizer, variables=variables)
    except ConversationError:
        return None
    prompt = template.prompt(messages, tools)
    if all(message["role"] != "assistant" for message in messages):
        return prompt
    answered = [*messages, {"role": "assistant", "content": "."}]
    with contextlib.suppress(ConversationError):  # an answer that would not be learned in training
        return cut_at_answers(prompt, template, Conversation(answered, [None] * len(answered), tools))
    return prompt


@functools.lru_cache(maxsize=1)
def _encoder(tokenizer: Any, size: int) -> ConversationEncoder:
    """Copies the tokenizer, so it is kept for the next prompt; `size` changes once tokens are added."""
    return ConversationEncoder(tokenizer)


def stop_at(model: Any, ends: list[int]) -> None:
    """Writes the ids that end an answer into the model's generation config, so that it stops wherever it is loaded."""
    model.generation_config.eos_token_id = ends
    model.generation_config._from_model_config = False  # otherwise transformers falls back on the architecture's id


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    ends: list[int],
    sampling: Sampling = Sampling(),
    *,
    streamer: Any = None,
) -> list[Answer]:
    """Answers to prompts, all at once, padded on the left. The model's own generation config has no effect.

    Args:
        model: in eval mode.
        ends: see end_ids.
        streamer: receives the ids of a single prompt's answer one by one; see transformers.TextStreamer.

    Raises:
        DataError: a prompt leaves no room in the model's context.
    """
    network = without_adapters(model)
    lengths = [len(ids) for ids in prompts]
    context = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 2**31
    if max(lengths) >= context:
        raise DataError(f"a prompt of {max(lengths):,} tokens: the model's context is {context:,}; shorten it")
    room = min(sampling.max_new_tokens, context - max(lengths))
    if room < sampling.max_new_tokens and len(prompts) > 1:  # each to its own limit
        return [generate(model, tokenizer, [ids], ends, sampling)[0] for ids in prompts]
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    rows = torch.tensor([[pad] * (max(lengths) - len(ids)) + ids for ids in prompts], device=network.device)
    mask = torch.tensor([[0] * (max(lengths) - size) + [1] * size for size in lengths], device=network.device)
    settings: dict[str, Any] = {"max_new_tokens": room, "eos_token_id": ends, "pad_token_id": pad, "use_cache": True}
    if sampling.temperature > 0:
        settings |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    own, network.generation_config = network.generation_config, GenerationConfig(**settings)
    devices = [network.device] if network.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices, enabled=sampling.seed is not None):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            made = network.generate(rows, attention_mask=mask, streamer=streamer)
    finally:
        network.generation_config = own
    return [_answer(tokenizer, ids, ends) for ids in made[:, max(lengths) :].tolist()]


def _answer(tokenizer: Any, ids: list[int], ends: list[int]) -> Answer:
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    return Answer(tokenizer.decode(ids[:stop], clean_up_tokenization_spaces=False), stop is not None)
