"""One message of a conversation in its one shape: content, calls and reasoning, wherever a row has them."""

from collections.abc import Mapping
from typing import Any

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.fields import as_call, as_list, as_text, shown
from trainyard.data.conversations.other_kinds import require_text
from trainyard.errors import ConversationError

_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("reasoning", "thinking")
_CALL_PARTS = ("tool_call", "tool_use", "function_call")
"""Types of the parts of a content list; the last two are the assistant's alone."""

_TEXTS = {
    "reasoning_content": "reasoning_content",
    "thinking": "reasoning_content",
    "reasoning": "reasoning_content",
    "name": "name",
    "tool_call_id": "tool_call_id",
}
"""Further texts of a message: the names that rows have for them, and ours. transformers knows the same names."""


def as_message(turn: Mapping[str, Any], role: str, content: str, place: str) -> Message:
    """A message of a row.

    Args:
        role: the role, as chat templates know it.
        content: the name of the field with the content: a string, or a list of parts.
        place: names the message in errors.

    Raises:
        ConversationError: what is wrong with the message.
    """
    require_text(turn, f"{place}.")
    if turn.get("refusal"):
        raise ConversationError(f"{place}.refusal: a refusal beside the content; make it the content, or leave it out")
    message: Message = {"role": role}
    calls = _calls(turn, place)
    if isinstance(turn.get(content), list):
        parts = _from_parts(turn[content], role, f"{place}.{content}")
        calls += parts.pop("tool_calls", [])
        message |= parts
    else:
        said = turn.get(content)
        message["content"] = "" if said is None and calls else as_text(said, f"{place}.{content}")
    if calls:
        if role != "assistant":
            raise ConversationError(f"{place}: a call of the role {role}; only the assistant calls functions")
        message["tool_calls"] = calls
    for name, own_name in _TEXTS.items():
        if turn.get(name) is not None and own_name not in message:
            message[own_name] = as_text(turn[name], f"{place}.{name}")
    return message


def _calls(turn: Mapping[str, Any], place: str) -> list[Message]:
    """The calls of a message: `tool_calls`, or the single `function_call` of the OpenAI API's earlier version."""
    several, single = turn.get("tool_calls"), turn.get("function_call")
    if several and single:
        raise ConversationError(f"{place}: both tool_calls and function_call; leave out one")
    if single:
        return [as_call(single, f"{place}.function_call")]
    called = enumerate(as_list(several, f"{place}.tool_calls") if several else [])
    return [as_call(call, f"{place}.tool_calls[{number}]") for number, call in called]


def _from_parts(parts: list[Any], role: str, place: str) -> Message:
    """The content, the calls and the reasoning of a list of parts, which must stand in the order of a message:
    reasoning, text, calls.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Message] = []
    for number, part in enumerate(parts):
        here = f"{place}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        is_answer = role == "assistant"
        if kind in _TEXT_PARTS:
            text = as_text(part.get("text", part.get("value")), f"{here}.text")
            if calls and text.strip():
                raise ConversationError(f"{here}: text behind a call; make it a message of its own")
            texts.append("" if calls else text)
        elif is_answer and kind in _REASONING_PARTS:
            if calls or "".join(texts).strip():
                raise ConversationError(f"{here}: reasoning behind text or a call; make it a message of its own")
            thoughts.append(as_text(part.get(kind, part.get("text", part.get("content"))), f"{here}.{kind}"))
        elif is_answer and kind in _CALL_PARTS:
            calls.append(as_call(part.get(kind) or part, here))
        else:
            raise ConversationError(f"{here}: a part must be of type text, this is {shown(kind)}")
    made: Message = {"content": "".join(texts)}
    made |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
    return made | ({"tool_calls": calls} if calls else {})
