"""Does a template render the calls of a message, all of them, with their names and arguments?

Text that happens to hold the words of a call is no call. So the message is rendered once more, with marks in place of
the names and values: a template that renders a call shows its marks.
"""

import html
import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.rendering import Rendering
from trainyard.errors import ConversationError

FIRST_MARK = 0x100010
"""A character for private use. The marks around contents (rendering.py) never stand in one text with those of calls."""


class Marked(NamedTuple):
    """A call whose name and values are replaced by marks of the same types."""

    call: Message
    marks: list[str]
    """How the marks look in a rendered text."""

    def shown_in(self, text: str) -> bool:
        """Does a rendered text have all marks?"""
        return all(occurrences(text, mark) for mark in self.marks)

    def is_python_in(self, text: str) -> bool:
        """Are the arguments, or objects within them, written as Python writes objects?"""
        return any(written in text for written in _as_python(arguments_of(self.call)))


def marked(message: Message, *, names: bool = True) -> list[Marked]:
    """The calls of a message with marks, all of them different.

    Args:
        names: mark the names of the functions too.
    """
    numbers = itertools.count()
    found = []
    for call in message["tool_calls"]:
        marks: list[str] = []
        function = call["function"]
        values = _marked(arguments_of(call), numbers, marks)
        arguments = json.dumps(values, ensure_ascii=False) if isinstance(function["arguments"], str) else values
        name = _marked(function["name"], numbers, marks) if names else function["name"]
        found.append(Marked({**call, "function": {**function, "name": name, "arguments": arguments}}, marks))
    return found


def arguments_of(call: Message) -> dict[str, Any]:
    """The arguments of a call as an object, also where the call has their JSON text."""
    arguments = call["function"]["arguments"]
    return dict(json.loads(arguments) if isinstance(arguments, str) else arguments)


def check_calls(whole: Rendering, number: int, said: str) -> None:
    """Checks that the rendered text of a message holds its calls.

    Args:
        number: the message.
        said: its rendered text.

    Raises:
        ConversationError: a call, or a part of it, is left out, or arguments are written as Python.
    """
    calls = whole.messages[number]["tool_calls"]
    parts = [_parts(call) for call in calls]
    needed = [part for own in parts for part in own]
    is_there = [_has(said, own, needed) for own in parts]
    marks = marked(whole.messages[number])
    shown = _shown(whole, number, marks)
    if not all(each.shown_in(shown or "") for each in marks):  # left out, or the template knows the names
        marks = marked(whole.messages[number], names=False)
        shown = _shown(whole, number, marks)
        text, without = _added(whole, number)
        for index, (own, each) in enumerate(zip(parts, marks, strict=True)):
            counted = own if shown is None else own[:1]  # the name alone where marks show the values
            is_there[index] &= _has(text, counted, needed, without) and (shown is None or each.shown_in(shown))
    for call, is_whole, each in zip(calls, is_there, marks, strict=True):
        if shown is not None and each.is_python_in(shown):
            raise ConversationError(f"message {number}: the template writes arguments as Python, not as JSON")
        if not is_whole:
            name = call["function"]["name"]
            raise ConversationError(f"message {number}: the template leaves out the call of {name!r}")


def _shown(whole: Rendering, number: int, marks: list[Marked]) -> str | None:
    """The conversation up to a message, rendered with marks in its calls; None if the template does not take them."""
    message = whole.messages[number] | {"tool_calls": [each.call for each in marks]}
    try:
        return whole.of([*whole.messages[:number], message])
    except ConversationError:
        return None


def _added(whole: Rendering, number: int) -> tuple[str, str]:
    """The conversation up to a message, rendered with the calls of that message and without them."""
    message, before = whole.messages[number], whole.messages[:number]
    silent = {name: value for name, value in message.items() if name != "tool_calls"}
    try:
        without = whole.of([*before, silent])
    except ConversationError:  # an empty message is none for some templates
        without = whole.of(before) + message["content"] + message.get("reasoning_content", "")
    return whole.of([*before, message]), without


def _has(text: str, parts: list[str], needed: list[str], without: str = "") -> bool:
    """Has a text each of some parts, as often as all that is needed has them, and beside another text?

    With the calls add(a=1) and add_two(a=1) the part `add` is needed twice, and `1` too.
    """
    return all(
        occurrences(text, part) - occurrences(without, part) >= sum(each.count(part) for each in needed)
        for part in parts
    )


def occurrences(text: str, part: str) -> int:
    """How often a text has a part, as it is or escaped for JSON (once or twice), ASCII or HTML."""
    quoted = json.dumps(part, ensure_ascii=False)[1:-1]
    twice = json.dumps(quoted, ensure_ascii=False)[1:-1]
    forms = {part, quoted, twice, json.dumps(part)[1:-1], html.escape(part), _AS_PYTHON.get(part, part)}
    return max(text.count(form) for form in forms)


_AS_PYTHON = {"true": "True", "false": "False", "null": "None"}
"""Templates that write values one by one write these as Python does."""


def _as_python(value: Any) -> Iterator[str]:
    """Objects at every depth of a value, as Python writes them."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and value:
        yield str(value)
    for each in inner:
        yield from _as_python(each)


def _parts(call: Message) -> list[str]:
    """The name of a call, and the keys and values of its arguments at every depth, as text."""
    return [part for part in [call["function"]["name"], *_leaves(arguments_of(call))] if part.strip()]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _marked(value: Any, numbers: Iterator[int], marks: list[str]) -> Any:
    """A value with marks of its types; what is empty, true, false or null cannot be marked."""
    if isinstance(value, dict):
        return {key: _marked(inner, numbers, marks) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner, numbers, marks) for inner in value]
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        return value
    number = next(numbers)
    mark = chr(FIRST_MARK + number) if isinstance(value, str) else type(value)(7_000_000_001 + 2 * number)
    marks.append(str(mark))
    return mark
