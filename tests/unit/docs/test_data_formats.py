"""The literal rows of docs/reference/data-formats.md are what the readers take."""

import json
import re

import pytest
from conftest import ROOT

from trainyard.data.conversations import formats
from unit.pages import fences

PAGE = (ROOT / "docs" / "reference" / "data-formats.md").read_text(encoding="utf-8")
CONVERSATIONS = PAGE.partition("## Conversations")[2].partition("## Bad documents")[0]


def rows() -> list[tuple[str, str]]:
    """Each literal row with the format that was named last before it."""
    found, form = [], ""
    for part in re.split(r"(^```json\n.*?^```$)", CONVERSATIONS, flags=re.M | re.S):
        if part.startswith("```json"):
            found += [(form, row) for row in fences(part, "json")[0].splitlines()]
        elif named := re.findall(r"^`(\w+)`: ", part, re.M):
            form = named[-1]
    return found


def test_every_format_has_a_row() -> None:
    assert {form for form, _ in rows()} == set(formats.COLUMNS)
    assert len(rows()) >= 5


@pytest.mark.parametrize(("form", "row"), rows())
def test_the_row_is_a_conversation(form: str, row: str) -> None:
    columns = {name: name for name in formats.COLUMNS[form]}
    conversation = formats.parse(json.loads(row), form, columns)
    assert conversation.messages[-1]["role"] == "assistant"
