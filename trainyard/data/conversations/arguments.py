"""The arguments of calls in the shape that a template takes: an object, or its JSON text."""

import json
from typing import Any

from trainyard.data.conversations.calls import Marked, arguments_of, marked
from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.rendering import Renderer
from trainyard.errors import ConversationError


class Arguments:
    """Gives a template the arguments of calls as it takes them. The first calls that it renders decide.

    A template takes objects if it renders all values of an object, and not as Python writes them. Otherwise it takes
    text if it does so with text.
    """

    def __init__(self, render: Renderer):
        self._render = render
        self._as_text: bool | None = None

    def __call__(self, messages: list[Message], tools: Any) -> list[Message]:
        """The messages, for the template."""
        if self._as_text is None and any(message.get("tool_calls") for message in messages):
            self._as_text = self._decide(messages, tools)
        return _as_text(messages) if self._as_text else messages

    def _decide(self, messages: list[Message], tools: Any) -> bool | None:
        """Does the template take text? None if it renders neither: the next calls may show it."""
        for shape in (False, True):
            calls: list[Marked] = []
            prepared = [_with_marks(message, calls) for message in (_as_text(messages) if shape else messages)]
            if not any(arguments_of(each.call) for each in calls):
                return None
            try:
                text = self._render(prepared, tools)
            except ConversationError:
                continue
            if all(each.shown_in(text) and not each.is_python_in(text) for each in calls):
                return shape
        return None


def _with_marks(message: Message, calls: list[Marked]) -> Message:
    """A message with marks in its calls, which are added to `calls`."""
    if not message.get("tool_calls"):
        return message
    own = marked(message)
    calls += own
    return message | {"tool_calls": [each.call for each in own]}


def _as_text(messages: list[Message]) -> list[Message]:
    return [
        message | {"tool_calls": [*map(_text_call, message["tool_calls"])]} if message.get("tool_calls") else message
        for message in messages
    ]


def _text_call(call: Message) -> Message:
    text = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}
