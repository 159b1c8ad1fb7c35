"""One Conversation behind every format of instruction data: alpaca, sharegpt, messages, prompt_completion.

The roles and fields are those that chat templates know: system, user, assistant and tool; content; tool_calls with a
function's name and arguments; reasoning_content. What a format cannot say without doubt is an error, never a guess.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainyard.errors import ConversationError

Message = dict[str, Any]


COLUMNS = {
    "alpaca": ("instruction", "input", "output", "history", "system"),
    "sharegpt": ("conversations", "tools", "system"),
    "messages": ("messages", "tools"),
    "prompt_completion": ("prompt", "completion", "tools"),
}
"""The columns of each format; data.sources.columns may give them other names."""


FORMATS = tuple(COLUMNS)


SOURCES = (*FORMATS, "docstrings")
"""What conversations can be read from: rows of these formats, and Python sources."""


@dataclass(frozen=True)
class Conversation:
    """What is said, and what of it is learned.

    Attributes:
        messages: in the manner of the OpenAI API, with `content` as one string.
        learned: for each message whether it is learned; None where the row does not say, and the setting decides.
        tools: descriptions of the functions that may be called, as JSON schemas; None when there are none.
    """

    messages: list[Message]
    learned: list[bool | None]
    tools: list[Any] | None = None

    def __len__(self) -> int:
        """Characters of what is said."""
        return sum(len(message["content"]) for message in self.messages)

    @cached_property
    def serialized(self) -> bytes:
        """All of it, for measuring and hashing; a UnicodeEncodeError when there is half of a surrogate pair in it."""
        return json.dumps([self.messages, self.learned, self.tools], ensure_ascii=False).encode("utf-8")


def parse(row: Any, form: str, columns: Mapping[str, str]) -> Conversation:
    """A row of a source as a conversation.

    Args:
        row: an object with the format's columns.
        form: one of FORMATS.
        columns: the name in the row for each of COLUMNS[form].

    Raises:
        ConversationError: saying what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise ConversationError(f"a conversation is an object, this is a {type(row).__name__}")
    fields = {name: row.get(column) for name, column in columns.items()}
    conversation = _PARSERS[form](fields, columns)
    if not any(message["role"] == "assistant" for message in conversation.messages):
        raise ConversationError("no message of the assistant, so there is nothing to learn")
    return conversation


def _alpaca(fields: dict[str, Any], columns: Mapping[str, str]) -> Conversation:
    instruction, answer = (_text(fields[name], columns[name]) for name in ("instruction", "output"))
    question = _text(fields["input"], columns["input"]) if fields["input"] is not None else ""
    messages = _system(fields["system"], columns["system"])
    history = fields["history"]
    for number, turn in enumerate([] if history is None else _list(history, columns["history"])):
        place = f"{columns['history']}[{number}]"
        if not isinstance(turn, list) or len(turn) != 2:
            raise ConversationError(f"{place}: must be a pair of question and answer, this is {_shown(turn)}")
        messages += [_said("user", _text(turn[0], place)), _said("assistant", _text(turn[1], place))]
    prompt = "\n".join(part for part in (instruction, question) if part)
    if not prompt:
        raise ConversationError(f"{columns['instruction']} and {columns['input']} are empty")
    messages += [_said("user", prompt), _said("assistant", answer)]
    return Conversation(messages, [None] * len(messages))


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _system(value: Any, place: str) -> list[Message]:
    return [] if value is None or value == "" else [_said("system", _text(value, place))]


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


def _sharegpt(fields: dict[str, Any], columns: Mapping[str, str]) -> Conversation:
    messages = _system(fields["system"], columns["system"])
    learned: list[bool | None] = [None] * len(messages)
    for number, turn in enumerate(_list(fields["conversations"], columns["conversations"])):
        place = f"{columns['conversations']}[{number}]"
        if not isinstance(turn, dict):
            raise ConversationError(f"{place}: must be an object with from and value, this is {_shown(turn)}")
        speaker = turn.get("from", turn.get("role"))
        role = _SHAREGPT_ROLES.get(str(speaker).lower())
        if role is None:
            known = ", ".join(_SHAREGPT_ROLES)
            raise ConversationError(f"{place}.from={_shown(speaker)}: must be one of {known}")
        if role == "system" and messages and number == 0:
            raise ConversationError(f"{place}: a system message, and {columns['system']} gives another; leave out one")
        content = turn.get("value", turn.get("content"))
        if role == "function_call":
            messages.append({"role": "assistant", "content": "", "tool_calls": _function_calls(content, place)})
        else:
            messages.append(_said(role, _text(content, f"{place}.value")))
        learned.append(_flag(turn, place))
    return Conversation(messages, learned, _tools(fields["tools"], columns["tools"]))


def _function_calls(value: Any, place: str) -> list[Any]:
    """`{"name": ..., "arguments": {...}}`, or a list of such, as JSON text or as it is."""
    place = f"{place}.value"
    calls = _json(value, place)
    return [_call(call, place) for call in (calls if isinstance(calls, list) and calls else [calls])]


_ROLES = ("system", "developer", "user", "assistant", "tool")


_TEXTS = {
    "reasoning_content": "reasoning_content",
    "thinking": "reasoning_content",
    "reasoning": "reasoning_content",
    "name": "name",
    "tool_call_id": "tool_call_id",
}
"""Further texts of a message, by the names that rows have for them; transformers knows the same ones."""


def _messages(fields: dict[str, Any], columns: Mapping[str, str]) -> Conversation:
    messages, learned = _openai(fields["messages"], columns["messages"])
    return Conversation(messages, learned, _tools(fields["tools"], columns["tools"]))


def _openai(value: Any, place: str) -> tuple[list[Message], list[bool | None]]:
    turns = _list(value, place)
    pairs = [_message(turn, f"{place}[{number}]") for number, turn in enumerate(turns)]
    return [message for message, _ in pairs], [flag for _, flag in pairs]


def _message(turn: Any, place: str) -> tuple[Message, bool | None]:
    if not isinstance(turn, dict):
        raise ConversationError(f"{place}: must be an object with role and content, this is {_shown(turn)}")
    role = turn.get("role")
    if role not in _ROLES:
        raise ConversationError(f"{place}.role={_shown(role)}: must be one of {', '.join(_ROLES)}")
    message: Message = {"role": role}
    calls = turn.get("tool_calls")
    if calls:
        called = enumerate(_list(calls, f"{place}.tool_calls"))
        message["tool_calls"] = [_call(call, f"{place}.tool_calls[{number}]") for number, call in called]
    content = turn.get("content")
    message["content"] = "" if content is None and calls else _content(content, f"{place}.content")
    for name, own_name in _TEXTS.items():
        if turn.get(name) is not None and own_name not in message:
            message[own_name] = _text(turn[name], f"{place}.{name}")
    return message, _flag(turn, place)


def _content(value: Any, place: str) -> str:
    """A string, or a list of parts of type text, whose texts follow one another."""
    if not isinstance(value, list):
        return _text(value, place)
    texts = []
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise ConversationError(f"{place}[{number}]: a part must be of type text, this is {_shown(kind)}")
        texts.append(_text(part.get("text", part.get("value")), f"{place}[{number}].text"))
    return "".join(texts)


def _flag(turn: Mapping[str, Any], place: str) -> bool | None:
    """Whether a message says itself that it is learned, as weight, loss_weight, loss or train: 0 or 1."""
    for name in ("weight", "loss_weight", "loss", "train"):
        value = turn.get(name)
        if value is not None:
            if value not in (0, 1):
                raise ConversationError(f"{place}.{name}={_shown(value)}: must be 0 or 1, or true or false")
            return bool(value)
    return None


def _prompt_completion(fields: dict[str, Any], columns: Mapping[str, str]) -> Conversation:
    """Strings, or lists of messages; what is learned is the completion."""
    messages: list[Message] = []
    learned: list[bool | None] = []
    for name, role, flag in (("prompt", "user", False), ("completion", "assistant", None)):
        value = fields[name]
        if isinstance(value, list):
            said, flags = _openai(value, columns[name])
        else:
            said, flags = [_said(role, _text(value, columns[name]))], [None]
        messages += said
        learned += [flag if own is None else own for own in flags]
    return Conversation(messages, learned, _tools(fields["tools"], columns["tools"]))


def _call(call: Any, place: str) -> Message:
    """One call of a function in the manner of the OpenAI API, its arguments as an object."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ConversationError(f"{place}: a call must be an object with name and arguments, this is {_shown(call)}")
    arguments = _json(function.get("arguments", function.get("parameters", {})), f"{place}.arguments")
    if not isinstance(arguments, dict):
        raise ConversationError(f"{place}.arguments: must be an object or its JSON text, this is {_shown(arguments)}")
    made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return made | ({"id": call["id"]} if isinstance(call.get("id"), str) else {})


def _tools(value: Any, place: str) -> list[Any] | None:
    """A list of functions, or the JSON text of one, in the manner of the OpenAI API; None when there are none."""
    listed = _json(value, place) if value != "" else None
    if listed is None:
        return None
    tools: list[Any] = []
    for number, tool in enumerate(_list(listed, place)):
        if not isinstance(tool, dict):
            raise ConversationError(f"{place}[{number}]: must describe a function as an object, this is {_shown(tool)}")
        is_bare = "name" in tool and "function" not in tool
        tools.append({"type": "function", "function": tool} if is_bare else tool)
    return tools or None


def _json(value: Any, place: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ConversationError(f"{place}: not valid JSON: {error}") from error


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConversationError(f"{place}: must be a list, this is {_shown(value)}")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise ConversationError(f"{place}: must be text, this is {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


_PARSERS: dict[str, Callable[[dict[str, Any], Mapping[str, str]], Conversation]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
}
