"""Quotes in overrides: Hydra reads letters, digits and a few marks as they are, and any other text only in quotes."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence

_QUOTED = re.compile(r"""("(\\.|[^"\\])*"|'(\\.|[^'\\])*')(?=\s*([\]},]|\Z))""")
_KEY = re.compile(r"""[^\[\]{},:"']+:\s*""")
_TEXT = re.compile(r"[^\[\]{},]+")


def with_home(override: str) -> str:
    """An override in which the home directory stands for the `~` of an unquoted `~/path`: Hydra knows no `~` there."""
    key, equals, value = override.partition("=")
    for start, end in reversed(list(_texts(value, several=False))):
        if (text := value[start:end]) == "~" or text.startswith("~/"):
            value = value[:start] + quote(os.path.expanduser(text)) + value[end:]  # noqa: PTH111  a text, no Path
    return key + equals + value


def with_quotes(override: str, is_readable: Callable[[str], bool], *, several: bool) -> str | None:
    """The override with quotes around each text that needs them; None if they do not make it readable.

    Args:
        is_readable: does Hydra's parser take an override?
        several: a comma divides values, as in a sweep; else it is part of the text.
    """
    key, _, value = override.partition("=")
    for start, end in reversed(list(_texts(value, several))):
        if not is_readable(f"key={value[start:end]}") or (not several and _has_comma(value, start, end)):
            value = value[:start] + quote(value[start:end]) + value[end:]
    result = f"{key}={value}"
    return result if is_readable(result) else None


def _has_comma(value: str, start: int, end: int) -> bool:
    return (start, end) == (0, len(value)) and "," in value


def _texts(value: str, several: bool) -> Iterator[tuple[int, int]]:
    """Start and end of each text of a value that is not quoted: the whole of it, or those within its brackets."""
    if not (several or value.startswith(("[", "{"))):
        if value and not _QUOTED.fullmatch(value):
            yield 0, len(value)
        return
    position, open_brackets = 0, list[str]()
    while position < len(value):
        character = value[position]
        if character in "[]{}, \t":
            if character in "[{":
                open_brackets.append(character)
            elif character in "]}" and open_brackets:
                open_brackets.pop()
            position += 1
        elif found := _QUOTED.match(value, position) or _key(value, position, open_brackets):
            position = found.end()
        else:
            found = _TEXT.match(value, position)
            assert found
            yield position, position + len(found[0].rstrip())
            position = found.end()


def _key(value: str, position: int, open_brackets: Sequence[str]) -> re.Match[str] | None:
    """The key of a mapping's entry, if such an entry begins here."""
    begins = open_brackets[-1:] == ["{"] and value[:position].rstrip()[-1:] in ("{", ",")
    return _KEY.match(value, position) if begins else None


def quote(text: str) -> str:
    """A text in double quotes: a backslash stands for itself, except before a quote, where each is doubled."""
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + found[2].replace('"', r"\""), text) + '"'


def for_shell(word: str) -> str:
    """A word as it is typed in a shell."""
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def is_balanced(value: str) -> bool:
    """Is every bracket closed, and every quote? Only then can quotes around a part of the value mend it."""
    rest = re.sub(r"""(?<![^\s\[\]{},:=(])("(\\.|[^"\\])*"|'(\\.|[^'\\])*')""", "", value)
    pairs: Sequence[str] = ("[]", "{}", "()")
    return all(rest.count(pair[0]) == rest.count(pair[1]) for pair in pairs)
