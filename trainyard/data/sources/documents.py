"""Values that were read, as documents: a text, a conversation, or a Fault with the reason why it is neither."""

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.conversations.formats import parse
from trainyard.errors import ConversationError, DataError

Document = str | Conversation


class Empty(NamedTuple):
    """Takes the place of a document without text, which is left out and counted."""


class Fault(NamedTuple):
    """Takes the place of a document that is bad."""

    reason: str
    text: str = ""
    """How the bad document begins, if that is known."""


def text_document(value: Any, column: str | None, max_bytes: int) -> Document | Empty | Fault:
    """The text of a value: the value itself, or a column of a row; Empty without text or with white space alone.

    What is a document, or stands for one, is returned unchanged.
    """
    if isinstance(value, (Fault, Empty, Conversation)):
        return value
    if column is not None:
        if not isinstance(value, dict):
            return Fault(f"a document is an object with a text column, this is {_kind(value)}")
        if column not in value:
            return Fault(f"no column {column!r}, only {names(value)}")
        value = value[column]
        if not isinstance(value, str):
            return Fault(f"column {column!r} must hold text, this is {_kind(value)}")
    if not value or value.isspace():
        return Empty()
    try:
        size = len(value) if value.isascii() else len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        return Fault(f"half of a surrogate pair at character {error.start}, which is no text")
    return value if size <= max_bytes else Fault(too_long(size, max_bytes), value)


def conversation_document(
    value: Any, form: str, columns: Mapping[str, str], max_bytes: int
) -> Conversation | Empty | Fault:
    """A row as a conversation, see formats.parse; Empty if nobody says anything. A Fault is returned unchanged."""
    if isinstance(value, (Fault, Empty)):
        return value
    try:
        conversation = parse(value, form, columns)
        if conversation.is_empty:
            return Empty()
        size = len(conversation.serialized)
    except (ConversationError, UnicodeEncodeError) as error:
        return Fault(str(error))
    except TypeError as error:  # datasets makes dates of texts that look like dates
        return Fault(f"tools and arguments must be JSON: {error}; write them as JSON text")
    return conversation if size <= max_bytes else Fault(too_long(size, max_bytes))


def too_long(size: int, max_bytes: int) -> str:
    """The reason for a document that is larger than data.max_document_mb."""
    return (
        f"a document of {size / 1e6:.1f} MB is longer than data.max_document_mb={max_bytes / 1e6:g}; "
        f"check the format in data.sources, split it, or raise the limit"
    )


def find_text_column(path: str, rows: Iterable[Any]) -> str:
    """The column `text` if one of the first 100 rows has it, else the first row's only column of strings.

    Raises:
        DataError: there is no such column.
    """
    first: dict[str, Any] | None = None
    for row in itertools.islice(rows, 100):
        if isinstance(row, dict):
            if "text" in row:
                return "text"
            first = first or row
    if first is None:
        return "text"  # no rows: the reason is named where they are read
    strings = [name for name, value in first.items() if isinstance(value, str)]
    if len(strings) == 1:
        return strings[0]
    raise DataError(
        f"{path}: no text column of strings among {names(first)}. Name it in data.sources, as columns: [<name>]"
    )


def names(columns: Iterable[str], most: int = 10) -> str:
    """The names of columns for a message, at most `most`."""
    shown = [repr(name)[:60] for name in itertools.islice(columns, most + 1)]
    return ", ".join(shown[:most]) + (" and more" if len(shown) > most else "") or "none"


def beginning(value: Any) -> str:
    """The first 200 characters of a document, for a message."""
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))[:200].rstrip()


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
