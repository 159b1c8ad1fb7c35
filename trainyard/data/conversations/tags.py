"""{% generation %} tags, by which a template says itself what a model generates, beside what is learned.

What is learned follows from the prompt at inference and from the end of a turn, whatever the tags say: tags may leave
out a token that a model must write itself, or mark what its prompt contains. A difference is said.
"""

from collections.abc import Sequence
from itertools import pairwise

from trainyard.data.conversations.rendering import Span

_SHOWN = 60


def difference(text: str, tagged: Sequence[Span], learned: Sequence[Span]) -> str:
    """Which text the tags of a template leave out of what is learned, and which they mark beside it.

    Empty where both agree, or differ in white space alone.

    Args:
        text: a rendered conversation.
        tagged: the passages inside the tags.
        learned: what is learned of it.
    """
    left_out, beside = _outside(text, learned, tagged), _outside(text, tagged, learned)
    said = [f"leave out {left_out[:_SHOWN]!r}, which is learned"] if left_out else []
    said += [f"mark {beside[:_SHOWN]!r}, which is not learned"] if beside else []
    return f"they {' and '.join(said)}" if said else ""


def _outside(text: str, spans: Sequence[Span], others: Sequence[Span]) -> str:
    """The first stretch of some spans that lies in no other and holds more than white space."""
    for begin, end in spans:
        cuts = sorted({begin, end, *(place for other in others for place in other if begin < place < end)})
        for a, b in pairwise(cuts):
            if text[a:b].strip() and not any(first <= a and b <= last for first, last in others):
                return text[a:b].strip()
    return ""
