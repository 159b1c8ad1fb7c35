"""Templates and conversations for the tests of chat templates, all written for them in the manner of known families."""

import copy
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from tokenizers import AddedToken

from sft.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.fragments import Fragment
from trainyard.data.conversations.template import ChatTemplate
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.data.tokenization.encoded import Tokens
from trainyard.errors import ConversationError

DIRECTORY = ROOT / "tests" / "data" / "templates"
TEMPLATES = {path.stem: path.read_text() for path in sorted(DIRECTORY.glob("*.jinja"))}
GOLDEN: dict[str, dict[str, str | list[tuple[str, list[int]]]]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(DIRECTORY.glob("*.yaml"))
}
"""For each template on each of CASES: the texts that are not learned and those that are, by turns, each with its ids by
TOKENIZER; or the reason of a refusal. Written by hand, with the ids of the plain tokenizer."""

# ---- conversations ----


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Message:
    return {"role": "assistant", "content": text, **more}


def thinking(text: str, thought: str) -> Message:
    return assistant(text, reasoning_content=thought)


def called(name: str, **arguments: Any) -> Message:
    return assistant("", tool_calls=[{"type": "function", "function": {"name": name, "arguments": arguments}}])


def talk(*messages: Message, tools: list[Any] | None = None, flags: dict[int, bool] | None = None) -> Conversation:
    return Conversation(list(messages), [(flags or {}).get(number) for number in range(len(messages))], tools)


HI, HELLO, BYE, SEE_YOU = user("Hi"), assistant("Hello."), user("Bye"), assistant("See you.")
SYSTEM = {"role": "system", "content": "Be brief."}
ADD = [{"type": "function", "function": {"name": "add"}}]
THREE = {"role": "tool", "content": "3"}

CASES = {
    "single": talk(HI, HELLO),
    "multi": talk(HI, HELLO, BYE, SEE_YOU),
    "system": talk(SYSTEM, HI, HELLO),
    "tools": talk(user("1+2?"), called("add", a=1, b=2), THREE, assistant("It is 3."), tools=ADD),
    "empty": talk(HI, assistant("")),
    "trailing": talk(HI, HELLO, BYE),
    "spaces": talk(user(" Hi \n"), assistant("\n Hello. "), user("\tBye"), assistant("See you.\n")),
    "reasoning": talk(HI, thinking("Hello.", "Greet."), BYE, thinking("See you.", "Part.")),
}
LONG = talk(SYSTEM, HI, HELLO, BYE, SEE_YOU)

# ---- tokenizers ----

SPECIAL = [
    "<s>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<start_of_turn>", "<end_of_turn>",
]  # fmt: skip


@functools.cache
def _trained() -> Any:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trained"
        tokenizers.train(iter(["user assistant Hello Hi Human Assistant model INST"] * 9), 400, path)
        return tokenizers.load(str(path))


def tokenizer_with(*tokens: str | AddedToken) -> Any:
    """A tokenizer of its own of 291 ids, those of ChatML among them, and these special tokens."""
    tokenizer = copy.deepcopy(_trained())
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    return tokenizer


TOKENIZER = tokenizer_with(*SPECIAL)
"""The one with all that TEMPLATES write."""


# ---- what becomes of a conversation ----


def chat_template(source: str | None, tokenizer: Any = TOKENIZER, **settings: Any) -> ChatTemplate:
    """A template of TEMPLATES by its name, or another by its source."""
    return ChatTemplate(tokenizer, TEMPLATES.get(str(source), source), **settings)


def changed(content: str) -> str:
    """ChatML in which the content of a turn is rendered by an expression."""
    return TEMPLATES["chatml"].replace("turn.content", f"({content})")


def shares(fragments: list[Fragment]) -> list[str]:
    """The text that is not learned and the text that is, by turns."""
    groups = itertools.groupby(fragments, lambda fragment: fragment.is_learned)
    joined = ["".join(fragment.text for fragment in group) for _, group in groups]
    return ["", *joined] if fragments[0].is_learned else joined


def learned(template: ChatTemplate, conversation: Conversation) -> list[str]:
    return shares(template.fragments(conversation))[1::2]


def refusal(template: ChatTemplate, conversation: Conversation) -> str:
    with pytest.raises(ConversationError) as caught:
        template.fragments(conversation)
    return str(caught.value)


def encoded(source: str, conversation: Conversation, tokenizer: Any = TOKENIZER) -> Tokens:
    """A conversation as it is trained on."""
    data = DataConfig(sources=[], chat_template=TEMPLATES.get(source, source))
    return Encoder(tokenizer, [conversation], data, fast=False)([conversation])
