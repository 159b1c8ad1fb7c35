"""A rendered conversation as fragments: special tokens of the template and stretches of text, each learned or not."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from trainyard.data.conversations.rendering import Span
from trainyard.data.tokenization.encoded import CutPoints


class Fragment(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    is_control: bool
    """A special token that the template wrote; otherwise text, whatever it spells."""
    is_learned: bool


class Note(NamedTuple):
    """What a user should know about how a conversation is rendered."""

    what: str
    """The same sentence for all conversations of which it is true."""
    example: str = ""
    """How it looks in this one."""


class Rendered(NamedTuple):
    """A conversation as a template renders it."""

    fragments: list[Fragment]
    """Joined, they are the rendered text, without the white space that special tokens swallow when a text is encoded
    (lstrip and rstrip of AddedToken)."""
    cut_points: CutPoints = CutPoints()
    """The indices of the fragments with which exchanges begin."""
    spells: bool = False
    """Does the content spell a special token, which is text here?"""
    notes: tuple[Note, ...] = ()


class Cutter:
    """Cuts rendered texts of one tokenizer's template.

    Args:
        special: matches any special token.
        swallow_before, swallow_behind: the special tokens that swallow white space before or behind them.
    """

    def __init__(self, special: re.Pattern[str], swallow_before: set[str], swallow_behind: set[str]):
        self._special, self._swallow_before, self._swallow_behind = special, swallow_before, swallow_behind

    def cut(self, text: str, learned: list[Span], exchanges: CutPoints, spelled: Mapping[str, str]) -> Rendered:
        """Cuts at special tokens, where learning begins and ends, and where exchanges begin.

        Cutting before an answer gives its tokens as inference does: the prompt is encoded by itself there.

            <|im_start|> user\\nHi <|im_end|> \\n <|im_start|> assistant\\n | Hello. <|im_end|> | \\n

        Args:
            learned: the stretches of the text that are learned, ascending.
            exchanges: in characters of the text.
            spelled: placeholders in the text by the special tokens that they stand for.
        """
        restored = str.maketrans({placeholder: token for token, placeholder in spelled.items()})
        controls = {match.start(): match.end() for match in self._special.finditer(text)}
        learned_to = dict(learned)
        bounds = {0, len(text), *controls, *controls.values(), *(place for span in learned for place in span)}
        bounds |= {*exchanges.known()}
        index_at: dict[int, int] = {}
        fragments: list[Fragment] = []
        previous = ""  # the special token that ends where a stretch begins
        until = 0  # where the latest learned stretch ends
        for begin, end in pairwise(sorted(bounds)):
            stretch = text[begin:end]
            index_at[begin] = len(fragments)
            until = learned_to.get(begin, until)
            is_learned = begin < until
            if controls.get(begin) == end:
                fragments.append(Fragment(stretch, True, is_learned))
                previous = stretch
                continue
            if previous in self._swallow_behind and begin not in learned_to:
                stretch = stretch.lstrip()
            if self._swallow_before and text[end : controls.get(end, end)] in self._swallow_before:
                stretch = stretch.rstrip()
            if stretch:
                fragments.append(Fragment(stretch.translate(restored) if spelled else stretch, False, is_learned))
            previous = ""
        return Rendered(fragments, exchanges.map(index_at.__getitem__), bool(spelled))
