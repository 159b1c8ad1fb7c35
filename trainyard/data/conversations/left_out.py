"""What a template leaves out of a conversation without a word: tools, and messages that no answer's check covers.

A message counts as rendered if its content stands in the text in its turn, or if a mark that is put into the content
appears when the conversation is rendered once more.
"""

from collections.abc import Collection

from trainyard.data.conversations.calls import FIRST_MARK, Marked, marked, occurrences
from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.rendering import Rendering, spoken
from trainyard.errors import ConversationError

_SHORT = 8
"""Characters: a shorter content may stand elsewhere in the text by chance."""

_NAMES = {"developer": "a developer message", "user": "a message of the user", "tool": "the result of a tool"}


def left_out(whole: Rendering, verified: Collection[int]) -> list[str]:
    """What is left out, in words; nothing where the template does not take the conversation with marks.

    Args:
        verified: the messages whose text is known to be in the rendering.
    """
    found = [] if _has_tools(whole) else ["the tools"]
    unverified = [n for n in range(len(whole.messages)) if n not in verified]
    if _stand_in_turn(whole, unverified):
        return found
    calls = {n: marked(whole.messages[n], names=False) for n in unverified if whole.messages[n].get("tool_calls")}
    try:
        shown = whole.of([_with_mark(n, each, calls, unverified) for n, each in enumerate(whole.messages)])
    except ConversationError:
        return found
    missing = [_name(whole, n) for n in unverified if spoken(whole.messages[n])[1] and not occurrences(shown, _mark(n))]
    missing += ["a call" for own in calls.values() if not all(call.shown_in(shown) for call in own)]
    return [*found, *dict.fromkeys(missing)]


def _has_tools(whole: Rendering) -> bool:
    """Are the names of all tools in the text, more often than without the tools?"""
    if not whole.tools:
        return True
    try:
        without = whole.without_tools()
    except ConversationError:
        return True
    names = [str((tool.get("function") or tool).get("name", "")) for tool in whole.tools]
    return all(occurrences(whole.text, name) > occurrences(without, name) for name in names if name)


def _stand_in_turn(whole: Rendering, numbers: Collection[int]) -> bool:
    """Do the contents stand in the text one behind another, and are they too long for that to be chance?"""
    place = 0
    for message in (whole.messages[number] for number in numbers):
        core = spoken(message)[1]
        found = whole.text.find(core, place)
        if message.get("tool_calls") or (core and (found < 0 or len(core) < _SHORT)):
            return False
        place = found + len(core)
    return True


def _with_mark(number: int, message: Message, calls: dict[int, list[Marked]], numbers: Collection[int]) -> Message:
    """A message with a mark in the middle of its content and marks in its calls, if its number is among these."""
    core, content = spoken(message)[1], message["content"]
    if number in numbers and core:
        middle = content.rindex(core) + len(core) // 2
        message = message | {"content": content[:middle] + _mark(number) + content[middle:]}
    return message | ({"tool_calls": [each.call for each in calls[number]]} if number in calls else {})


def _mark(number: int) -> str:
    return chr(FIRST_MARK + 0x1000 + number)


def _name(whole: Rendering, number: int) -> str:
    """A message in words."""
    role = whole.messages[number]["role"]
    if role == "system":
        earlier = {message["role"] for message in whole.messages[:number]}
        return "a later system message" if earlier - {"developer"} else "the system message"
    return _NAMES.get(role, "an earlier answer")
