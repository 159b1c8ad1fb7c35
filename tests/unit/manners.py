"""Chat templates in the manners of real models, and what is learned of each by marks that the templates carry.

A template of tests/data/manners says where learning begins and ends by the comments `learn` and `end`. The chat
template that is tried has them as comments; the reference has characters there, so transformers' own rendering says
where answers are: no rule of ours is in it.
"""

import copy
import functools
import re
from typing import Any, NamedTuple

from conftest import ROOT
from tokenizers import AddedToken

from trainyard.data.conversations.conversation import Conversation, Message
from unit.template_cases import assistant, called, talk, tokenizer_with, user

DIRECTORY = ROOT / "tests" / "data" / "manners"
MANNERS = {path.stem: path.read_text() for path in sorted(DIRECTORY.glob("*.jinja"))}

LEARN, END = "⟦", "⟧"


@functools.cache
def named(name: str) -> dict[str, list[str]]:
    """What the template's first line names: special and added tokens, and what closes a turn that it leaves open."""
    head = MANNERS[name].splitlines()[0].removeprefix("{#- ").removesuffix(" -#}")
    words = re.split(r" ?(special|added|eos|bos|closing|closing_call): ", head)[1:]
    return dict(zip(words[::2], (value.split() for value in words[1::2]), strict=True))


@functools.cache
def tokenizer_of(name: str) -> Any:
    """A small tokenizer with the special and the added tokens of a template."""
    tokens = named(name)
    tokenizer = copy.deepcopy(tokenizer_with())
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens["special"]], True)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in tokens.get("added", [])])
    tokenizer.eos_token, tokenizer.bos_token = tokens["eos"][0], tokens.get("bos", [None])[0]
    tokenizer.chat_template = MANNERS[name]
    return tokenizer


class Reference(NamedTuple):
    """What transformers renders of a conversation, with the stretches that the template's marks say are learned."""

    text: str
    learned: list[tuple[int, int]]
    """One for each message of the assistant that is rendered."""
    closing: str
    """What closes the last turn where the template leaves that open; it is learned, and not in the text."""


def reference(name: str, conversation: Conversation, **how: Any) -> Reference:
    """
    Raises:
        Exception: the template does not take the conversation.
    """
    tokenizer = tokenizer_of(name)
    marked = MANNERS[name].replace("{#- learn -#}", f"{{{{- '{LEARN}' -}}}}")
    marked = marked.replace("{#- end -#}", f"{{{{- '{END}' -}}}}")
    messages = [as_given(message) for message in conversation.messages]
    settings: dict[str, Any] = {"tools": conversation.tools, "tokenize": False, **how}
    shown = tokenizer.apply_chat_template(messages, chat_template=marked, **settings)
    text, learned, begin = "", [], None
    for part in re.split(f"([{LEARN}{END}])", shown):
        if part == LEARN:
            begin = len(text)
        elif part == END:
            assert begin is not None
            learned.append((begin, len(text)))
            begin = None
        else:
            text += part
    assert text == tokenizer.apply_chat_template(messages, **settings)
    closing = ""
    if begin is not None:
        (closing,) = named(name)["closing_call" if conversation.messages[-1].get("tool_calls") else "closing"]
        learned.append((begin, len(text) + len(closing)))
    return Reference(text, learned, closing)


def as_given(message: Message) -> Message:
    """A message with its reasoning under both of its names, as gpt-oss reads it."""
    return message | ({"thinking": message["reasoning_content"]} if "reasoning_content" in message else {})


# ---- conversations ----

TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": {"type": "object"}}}
    for name in ("add", "city")
]


def _calls(*calls: tuple[str, dict[str, Any]], said: str = "", **more: Any) -> Message:
    listed = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in calls]
    return assistant(said, tool_calls=listed, **more)


def _result(text: str) -> Message:
    return {"role": "tool", "content": text}


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


SUM = called("add", a=1, b=2)
PARALLEL = _calls(("add", {"a": 1, "b": 2}), ("city", {"near": "München"}))

CONVERSATIONS: dict[str, Conversation] = {
    "single": talk(user("Hi"), assistant("Hello.")),
    "three_turns": talk(
        user("Hi"), assistant("Hello."), user("Bye"), assistant("See you."), user("Still here?"), assistant("Yes.")
    ),
    "same_answers": talk(user("Hi"), assistant("Hi"), user("Hi"), assistant("Hi"), user("Hi"), assistant("Hi")),
    "system": talk(_system("Be brief."), user("Hi"), assistant("Hello."), user("Bye"), assistant("See you.")),
    "developer": talk({"role": "developer", "content": "Be brief."}, user("Hi"), assistant("Hello.")),
    "later_system": talk(user("Hi"), assistant("Hello."), _system("Be loud."), user("Bye"), assistant("SEE YOU.")),
    "call": talk(user("1+2?"), SUM, _result("3"), assistant("It is 3."), tools=TOOLS),
    "call_in_history": talk(
        _system("Calculate."),
        user("1+2?"),
        SUM,
        _result("3"),
        assistant("It is 3."),
        user("Sure?"),
        assistant("Yes."),
        tools=TOOLS,
    ),
    "calls_in_a_row": talk(
        user("1+2, then where?"),
        SUM,
        _result("3"),
        called("city", near="Paris"),
        _result("{}"),
        assistant("3, Paris."),
        tools=TOOLS,
    ),
    "parallel": talk(user("Both!"), PARALLEL, _result("3"), _result("big"), assistant("3 and big."), tools=TOOLS),
    "call_with_text": talk(
        user("1+2?"), _calls(("add", {"a": 1}), said="Let me see."), _result("3"), assistant("It is 3."), tools=TOOLS
    ),
    "last_is_call": talk(user("1+2?"), SUM, tools=TOOLS),
    "waiting_for_answer": talk(user("1+2?"), SUM, _result("3"), tools=TOOLS),
    "tools_unused": talk(user("Hi"), assistant("Hello."), tools=TOOLS),
    "reasoning": talk(user("Hi"), assistant("Hello.", reasoning_content="Greet.")),
    "reasoning_in_history": talk(
        user("Hi"),
        assistant("Hello.", reasoning_content="Greet."),
        user("Bye"),
        assistant("See.", reasoning_content="Part."),
    ),
    "reasoning_with_calls": talk(
        user("1+2?"),
        SUM | {"reasoning_content": "Add."},
        _result("3"),
        assistant("3.", reasoning_content="Done."),
        user("2+2?"),
        SUM | {"reasoning_content": "Again."},
        _result("4"),
        assistant("4.", reasoning_content="Well."),
        tools=TOOLS,
    ),
    "reasoning_inline": talk(user("Hi"), assistant("<think>\nGreet.\n</think>\n\nHello.")),
    "empty_answer": talk(user("Hi"), assistant(""), user("Hm?"), assistant("Sorry.")),
    "open_question": talk(user("Hi"), assistant("Hello."), user("Bye")),
    "assistant_first": talk(assistant("Welcome."), user("Hi"), assistant("Hello.")),
    "answers_in_a_row": talk(user("Hi"), assistant("Hello."), assistant("And welcome.")),
    "spaces": talk(user(" Hi \n"), assistant("\n Hello.\n\nBye. "), user("\tBye"), assistant("See you.\n")),
    "unusual_text": talk(
        user("é 🚂 语 {{ x }}"), assistant('语 🚂 {% raw %} "quoted" \\n <b>'), user("?"), assistant("!")
    ),
}
