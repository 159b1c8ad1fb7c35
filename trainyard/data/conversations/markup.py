"""What a chat template writes around answers; probe.py finds it."""

import re
from typing import NamedTuple


class Markup(NamedTuple):
    """What a template writes around answers."""

    special: re.Pattern[str]
    """Any special token."""
    tail: str
    """What stands behind an answer that something follows, up to the end of the last token that closes the turn."""
    opening: str = ""
    """The text between a question and its answer; empty if it holds no special token."""
    between: frozenset[str] = frozenset({""})
    """The texts between the generation prompt and an answer, such as an empty block of reasoning; mostly "" alone."""
    closing: str = ""
    """Closes a last turn that the template leaves open; empty where the template closes it."""
    closing_call: str = ""
    """The same for a turn that ends with a call."""
    question: str = ""
    """How a user's message begins behind an answer; empty if unknown."""
    header: str | None = None
    """What stands before the first message; None if unknown."""
    ends: frozenset[str] = frozenset()
    """The tokens at which a model stops."""

    @property
    def end(self) -> str:
        """The token that ends an answer."""
        return str(self.special.findall(self.tail)[-1])

    def run(self, text: str, start: int) -> int:
        """Behind the special tokens that follow one another from a place on; the place if there are none."""
        while match := self.special.match(text, start):
            start = match.end()
        return start

    def common(self, one: str, other: str) -> int:
        """The length of the common beginning of two texts, which ends within no special token."""
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        for text in (one, other):
            inside = [m.start() for m in self.special.finditer(text) if m.start() < same < m.end()]
            same = min([same, *inside])
        return same
