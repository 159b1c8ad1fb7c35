"""Where the exchanges of a rendered conversation begin: the places at which a long conversation may be cut."""

from trainyard.data.conversations.rendering import Rendering
from trainyard.data.tokenization.encoded import CutPoints
from trainyard.errors import ConversationError


def exchange_starts(whole: Rendering, ends: dict[int, int]) -> CutPoints:
    """The cut points of a conversation, in characters.

    The first exchange begins behind the system message and the tools. A later one begins with a message of the user
    behind an answer; it is left out if the template does not begin it between two messages.

    Args:
        ends: where the answers end that have been found, by the number of the message.
    """
    roles = [message["role"] for message in whole.messages]
    first = next((number for number, role in enumerate(roles) if role not in ("system", "developer")), 0)
    later = [n for n in range(first + 1, len(roles)) if roles[n] == "user" and roles[n - 1] == "assistant"]
    if not later:
        return CutPoints(0)
    lead = _beginning(whole, first) if first or whole.tools else 0
    places = [ends[n - 1] if n - 1 in ends else _beginning(whole, n) for n in later]
    return CutPoints(lead, [_behind_space(whole, place) for place in places if place is not None])


def _beginning(whole: Rendering, number: int) -> int | None:
    """Where a message begins; None if the messages before it are rendered differently without it."""
    if number == 0:
        return None
    try:
        before = whole.of(whole.messages[:number])
    except ConversationError:
        return None
    return len(before) if whole.text.startswith(before) else None


def _behind_space(whole: Rendering, place: int) -> int:
    """Behind the white space at a place, if a special token follows it; else the place."""
    behind = len(whole.text) - len(whole.text[place:].lstrip())
    return behind if whole.markup.special.match(whole.text, behind) else place
