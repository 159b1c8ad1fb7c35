"""Rows of other kinds of training data: pictures, sound and film, and preferences. Read as conversations they would be
learned as something that they are not, so they are refused by name.
"""

from collections.abc import Collection, Mapping
from typing import Any

from trainyard.errors import ConversationError

MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Fields of a row or of a message whose content is no text."""

_PREFERENCES = ("chosen", "rejected", "chosen_response", "rejected_response", "chosen_messages", "rejected_messages")
"""Columns of answers that were compared with each other."""

_VERDICTS = ("label", "kto_tag")
"""Columns that say whether an answer is desirable (KTO)."""

COLUMNS = (*MEDIA, *_PREFERENCES, *_VERDICTS)
"""The columns by which such rows are recognised."""


def require_conversation(row: Mapping[str, Any], named: Collection[str]) -> None:
    """Checks that a row is no data of another kind.

    Args:
        named: the columns that the source's format reads; a column that the user chose is read as it is.

    Raises:
        ConversationError: the column that shows another kind, and what to do.
    """
    require_text({name: value for name, value in row.items() if name not in named}, "")
    if not set(named) & set(_PREFERENCES) and (found := [name for name in _PREFERENCES if row.get(name)]):
        raise ConversationError(
            f"{' and '.join(found)}: a row of preferences (DPO), and fine-tuning learns every answer; name the column "
            f"to learn in data.sources, as columns: {{completion: chosen}}, or leave these columns out"
        )
    for name in _VERDICTS:
        if name not in named and str(row.get(name)).lower() == "false":
            raise ConversationError(
                f"{name}={row[name]}: an answer that is not wanted (KTO), and fine-tuning would learn it; leave such "
                f"rows out, or the column"
            )


def require_text(holder: Mapping[str, Any], place: str) -> None:
    """Checks that a row or a message comes without media.

    Args:
        place: names the holder in the error, as `messages[0].`; empty for a row.

    Raises:
        ConversationError: the field with media.
    """
    for name in MEDIA:
        if holder.get(name):
            raise ConversationError(
                f"{place}{name}: this conversation is about {name}, and only text is trained; leave such rows out"
            )
