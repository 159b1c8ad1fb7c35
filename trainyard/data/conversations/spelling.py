"""Text cannot forge control: special tokens that the content spells are replaced by placeholders before a template
renders it, so every special token in the rendered text is the template's own.
"""

import re
from typing import Any

from trainyard.data.conversations.conversation import Message

PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
"""Characters for private use: placeholders and marks. Those of a content are replaced like special tokens."""

_PLACEHOLDERS = 0xF0000
"""The first placeholder."""

REASONING = {"<think>", "</think>"}
"""Special tokens of some tokenizers that an answer may spell, because the model writes them itself."""

BRACKETED = re.compile(r"[<\[{].*[>\]}]")
"""How tokens look that may mark roles. Others that a tokenizer adds, such as line breaks in a row, are text."""


class Spelling:
    """The placeholders for what one conversation spells.

    Attributes:
        spelled: the placeholder of each special token, or character for private use, that was met.
    """

    def __init__(self, special: re.Pattern[str], special_in_answer: re.Pattern[str]):
        self._special, self._special_in_answer = special, special_in_answer
        self.spelled: dict[str, str] = {}

    def message(self, message: Message) -> Message:
        """A message as apply_chat_template gives it to the template, with placeholders."""
        is_answer = message["role"] == "assistant"
        guarded = {name: self.value(value, is_answer=is_answer) for name, value in message.items()}
        if "reasoning_content" in guarded:
            return {"thinking": guarded["reasoning_content"], **guarded}
        return guarded

    def value(self, value: Any, *, is_answer: bool = False) -> Any:
        """A value with placeholders in all its strings, keys included."""
        if isinstance(value, str):
            special = self._special_in_answer if is_answer else self._special
            if special.search(value) or PRIVATE.search(value):
                value = PRIVATE.sub(self._placeholder, value)
                value = special.sub(self._placeholder, value)
            return value
        if isinstance(value, list):
            return [self.value(item, is_answer=is_answer) for item in value]
        if isinstance(value, dict):
            keys = [self.value(key, is_answer=is_answer) for key in value]
            return dict(zip(keys, self.value(list(value.values()), is_answer=is_answer), strict=True))
        return value

    def _placeholder(self, match: re.Match[str]) -> str:
        return self.spelled.setdefault(match[0], chr(_PLACEHOLDERS + len(self.spelled)))


def any_of(tokens: set[str]) -> re.Pattern[str]:
    """Matches any of the tokens, the longest first; nothing when there are none."""
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")


def patterns(special: set[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Matches any special token, and any that an answer may not spell."""
    return any_of(special), any_of(special - REASONING)
