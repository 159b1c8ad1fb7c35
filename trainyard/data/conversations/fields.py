"""Checks of the fields of a row. Each returns the field in its one shape, or raises a ConversationError that names
the place, the rule and the value. What a field does not say without doubt is an error, never a guess.
"""

import json
from collections.abc import Mapping
from typing import Any

from trainyard.data.conversations.conversation import Message
from trainyard.errors import ConversationError


def as_text(value: Any, place: str) -> str:
    """A string, which may be empty."""
    if not isinstance(value, str):
        raise ConversationError(f"{place}: must be text, this is {shown(value)}")
    return value


def as_list(value: Any, place: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ConversationError(f"{place}: must be a list, this is {shown(value)}")
    return value


def as_json(value: Any, place: str) -> Any:
    """A string as the JSON that it holds; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ConversationError(f"{place}: not valid JSON: {error}") from error


def as_call(call: Any, place: str) -> Message:
    """One call of a function in the manner of the OpenAI API, its arguments as an object."""
    function = (call.get("function") or call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ConversationError(f"{place}: a call must be an object with name and arguments, this is {shown(call)}")
    given: Any = next((function[name] for name in ("arguments", "parameters", "input") if name in function), {})
    arguments = as_json(given, f"{place}.arguments")
    if not isinstance(arguments, dict):
        raise ConversationError(f"{place}.arguments: must be an object or its JSON text, this is {shown(arguments)}")
    made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return made | ({"id": call["id"]} if isinstance(call.get("id"), str) else {})


def as_tools(value: Any, place: str) -> list[Any] | None:
    """Descriptions of functions, a list or its JSON text, in the manner of the OpenAI API; None when there are none."""
    listed = as_json(value, place) if value != "" else None
    if listed is None:
        return None
    tools: list[Any] = []
    for number, tool in enumerate(as_list(listed, place)):
        if not isinstance(tool, dict):
            raise ConversationError(f"{place}[{number}]: must describe a function as an object, this is {shown(tool)}")
        is_bare = "name" in tool and "function" not in tool
        tools.append({"type": "function", "function": tool} if is_bare else tool)
    return tools or None


def learn_flag(turn: Mapping[str, Any], place: str) -> bool | None:
    """Does a message say that it is learned? By weight, loss_weight, loss or train, 0 or 1; None if it does not say."""
    for name in ("weight", "loss_weight", "loss", "train"):
        value = turn.get(name)
        if value is not None:
            if value not in (0, 1):
                raise ConversationError(f"{place}.{name}={shown(value)}: must be 0 or 1, or true or false")
            return bool(value)
    return None


def shown(value: Any) -> str:
    """A value for a message: its type and how it begins."""
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
