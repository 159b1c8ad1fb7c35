"""Where the exchanges of a rendered conversation begin: the places at which a long conversation may be cut."""

from trainyard.data.conversations.rendering import Rendering
from trainyard.data.tokenization.encoded import CutPoints
from trainyard.errors import ConversationError


def exchange_starts(whole: Rendering, ends: dict[int, int]) -> CutPoints:
    """The cut points of a conversation, in characters.

    The first exchange begins behind all that stands before the first message: what the template writes itself, such as
    a begin-of-text token, the system message and the tools. A later one begins with a message of the user behind an
    answer; it is left out if the template does not begin it between two messages.

    Args:
        ends: where the answers end that have been found, by the number of the message.
    """
    roles = [message["role"] for message in whole.messages]
    first = next((number for number, role in enumerate(roles) if role not in ("system", "developer")), 0)
    later = [n for n in range(first + 1, len(roles)) if roles[n] == "user" and roles[n - 1] == "assistant"]
    places = [_question(whole, n, ends.get(n - 1)) for n in later]
    return CutPoints(_lead(whole, first), tuple(place for place in places if place is not None))


def _lead(whole: Rendering, first: int) -> int | None:
    """Where the first message behind the system message begins; None if that is unknown."""
    opened = _opened(whole, first)
    if opened is not None:
        return opened
    if first or whole.tools:
        before = _beginning(whole, first)
        return None if before is None else _behind_space(whole, before)
    header = whole.markup.header
    return len(header) if header is not None and whole.text.startswith(header) else None


def _question(whole: Rendering, number: int, end: int | None) -> int | None:
    """Where a question behind an answer begins; None if the template does not begin it between two messages.

    Args:
        end: where the answer before it ends, if it has been found.
    """
    opened = _opened(whole, number)
    if opened is not None:
        return opened
    place = _beginning(whole, number) if end is None else end
    return None if place is None else _behind_space(whole, place)


def _opened(whole: Rendering, number: int) -> int | None:
    """Where a message of the user begins, if its content has its place and is opened as every question is."""
    question, span = whole.markup.question, whole.contents.get(number)
    if not question or span is None or not whole.text.endswith(question, 0, span[0]):
        return None
    return span[0] - len(question)


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
