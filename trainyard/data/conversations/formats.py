"""The formats of instruction data, a function each: a row of alpaca, sharegpt, messages or prompt_completion becomes a
Conversation. docs/reference shows a row of each; messages.py reads a message, and fields.py checks the values.
"""

from collections.abc import Callable, Mapping
from typing import Any

from trainyard.data.conversations import other_kinds
from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.fields import as_call, as_json, as_list, as_text, as_tools, learn_flag, shown
from trainyard.data.conversations.messages import as_message
from trainyard.errors import ConversationError

COLUMNS = {
    "alpaca": ("instruction", "input", "output", "history", "system"),
    "sharegpt": ("conversations", "tools", "system"),
    "messages": ("messages", "tools", "functions"),
    "prompt_completion": ("prompt", "completion", "tools"),
}
"""The columns of each format; data.sources.columns may give them other names."""

FORMATS = tuple(COLUMNS)

SOURCES = (*FORMATS, "docstrings")
"""What conversations are read from: rows of these formats, and Python sources."""

Fields = dict[str, Any]
"""The values of a row by the format's own names for the columns."""

Columns = Mapping[str, str]
"""The row's name for each column of the format."""


def parse(row: Any, form: str, columns: Columns) -> Conversation:
    """A row of a source as a conversation, which may be without any text.

    A first message of the assistant is not learned unless its own flag asks for that: no prompt leads to it.

    Args:
        row: an object with the format's columns.
        form: one of FORMATS.
        columns: the name in the row for each of COLUMNS[form].

    Raises:
        ConversationError: what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise ConversationError(f"a conversation is an object, this is a {type(row).__name__}")
    other_kinds.require_conversation(row, columns.values())
    fields = {name: row.get(column) for name, column in columns.items()}
    found = _PARSERS[form](fields, columns)
    roles = [message["role"] for message in found.messages]
    if "assistant" not in roles and not found.is_empty:
        raise ConversationError("no message of the assistant, so there is nothing to learn")
    if roles[:1] == ["assistant"] and found.learn[0] is None:
        return Conversation(found.messages, [False, *found.learn[1:]], found.tools)
    return found


def _alpaca(fields: Fields, columns: Columns) -> Conversation:
    """An instruction with its input asks, the output answers; system and earlier exchanges stand before them."""
    instruction, answer = (as_text(fields[name], columns[name]) for name in ("instruction", "output"))
    question = as_text(fields["input"], columns["input"]) if fields["input"] is not None else ""
    messages = _system(fields["system"], columns["system"])
    history = fields["history"]
    for number, turn in enumerate([] if history is None else as_list(history, columns["history"])):
        place = f"{columns['history']}[{number}]"
        if not isinstance(turn, list) or len(turn) != 2:
            raise ConversationError(f"{place}: must be a pair of question and answer, this is {shown(turn)}")
        messages += [_said("user", as_text(turn[0], place)), _said("assistant", as_text(turn[1], place))]
    prompt = "\n".join(part for part in (instruction, question) if part)
    if not prompt and (answer.strip() or history):
        raise ConversationError(f"{columns['instruction']} and {columns['input']} are empty")
    messages += [_said("user", prompt), _said("assistant", answer)]
    return Conversation(messages, [None] * len(messages))


_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "function_call": "function_call",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
}


def _sharegpt(fields: Fields, columns: Columns) -> Conversation:
    """Turns with `from` and `value`; calls of functions are turns of their own."""
    messages = _system(fields["system"], columns["system"])
    learn: list[bool | None] = [None] * len(messages)
    for number, turn in enumerate(as_list(fields["conversations"], columns["conversations"])):
        place = f"{columns['conversations']}[{number}]"
        if not isinstance(turn, dict):
            raise ConversationError(f"{place}: must be an object with from and value, this is {shown(turn)}")
        speaker = turn.get("from", turn.get("role"))
        role = _SHAREGPT_ROLES.get(str(speaker).lower())
        if role is None:
            known = ", ".join(_SHAREGPT_ROLES)
            raise ConversationError(f"{place}.from={shown(speaker)}: must be one of {known}")
        if role == "system" and messages and number == 0:
            raise ConversationError(f"{place}: a system message, and {columns['system']} gives another; leave out one")
        content = "content" if "content" in turn and "value" not in turn else "value"
        if role == "function_call":
            calls = _sharegpt_calls(turn.get(content), place)
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        else:
            messages.append(as_message(turn, role, content, place))
        learn.append(learn_flag(turn, place))
    return Conversation(messages, learn, as_tools(fields["tools"], columns["tools"]))


def _sharegpt_calls(value: Any, place: str) -> list[Any]:
    """`{"name": ..., "arguments": {...}}` or a list of such objects, as JSON text or as it is."""
    place = f"{place}.value"
    calls = as_json(value, place)
    return [as_call(call, place) for call in (calls if isinstance(calls, list) and calls else [calls])]


def _messages(fields: Fields, columns: Columns) -> Conversation:
    """Messages in the manner of the OpenAI API."""
    messages, learn = _openai(fields["messages"], columns["messages"])
    tools, functions = (as_tools(fields[name], columns[name]) for name in ("tools", "functions"))
    if tools and functions:
        raise ConversationError(f"both {columns['tools']} and {columns['functions']}; leave out one")
    return Conversation(messages, learn, tools or functions)


def _prompt_completion(fields: Fields, columns: Columns) -> Conversation:
    """Two strings, or two lists of messages. The completion is learned, the prompt only where a message says so."""
    messages: list[Message] = []
    learn: list[bool | None] = []
    for name, role, flag in (("prompt", "user", False), ("completion", "assistant", None)):
        value = fields[name]
        if isinstance(value, list):
            said, flags = _openai(value, columns[name])
        else:
            said, flags = [_said(role, as_text(value, columns[name]))], [None]
        messages += said
        learn += [flag if own is None else own for own in flags]
    return Conversation(messages, learn, as_tools(fields["tools"], columns["tools"]))


# ---- messages ----

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""`function` is the tool of the OpenAI API's earlier version."""


def _openai(value: Any, place: str) -> tuple[list[Message], list[bool | None]]:
    """A list of messages, and for each whether the data wants it learned."""
    turns = as_list(value, place)
    pairs = [_message(turn, f"{place}[{number}]") for number, turn in enumerate(turns)]
    return [message for message, _ in pairs], [flag for _, flag in pairs]


def _message(turn: Any, place: str) -> tuple[Message, bool | None]:
    if not isinstance(turn, dict):
        raise ConversationError(f"{place}: must be an object with role and content, this is {shown(turn)}")
    role = turn.get("role")
    if role not in _ROLES:
        raise ConversationError(f"{place}.role={shown(role)}: must be one of {', '.join(_ROLES)}")
    return as_message(turn, "tool" if role == "function" else role, "content", place), learn_flag(turn, place)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _system(value: Any, place: str) -> list[Message]:
    return [] if value is None or value == "" else [_said("system", as_text(value, place))]


_PARSERS: dict[str, Callable[[Fields, Columns], Conversation]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
}
