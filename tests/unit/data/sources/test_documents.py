"""Values that were read, as documents or as Faults with the reason."""

import datetime
from typing import Any

import pytest

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.sources.documents import (
    Empty,
    Fault,
    beginning,
    conversation_document,
    find_text_column,
    names,
    text_document,
    too_long,
)
from trainyard.errors import DataError

SPLIT = "check the format in data.sources, split it, or raise the limit"
TALK = Conversation([{"role": "user", "content": "Hi"}], [None])


@pytest.mark.parametrize(("value", "column", "wanted"), [
    ("one", None, "one"),
    ({"a": "一", "b": 1}, "a", "一"),
    ("x" * 9, None, "x" * 9),
    ("一二三", None, "一二三"),
    (Fault("bad", "b"), "a", Fault("bad", "b")),
    (TALK, None, TALK),
    ("", None, Empty()),
    (" \t\n\u3000", None, Empty()),
    ({"a": " "}, "a", Empty()),
    (Empty(), "a", Empty()),
    (["one"], "a", Fault("a document is an object with a text column, this is list \"['one']\"")),
    ({"b": 1, "c": 2}, "a", Fault("no column 'a', only 'b', 'c'")),
    ({}, "a", Fault("no column 'a', only none")),
    ({"a": None}, "a", Fault("column 'a' must hold text, this is null")),
    ({"a": 3}, "a", Fault("column 'a' must hold text, this is int '3'")),
    ("ab\ud800", None, Fault("half of a surrogate pair at character 2, which is no text")),
    ("x" * 10, None, Fault(f"a document of 0.0 MB is longer than data.max_document_mb=9e-06; {SPLIT}", "x" * 10)),
    ("一二三x", None, Fault(f"a document of 0.0 MB is longer than data.max_document_mb=9e-06; {SPLIT}", "一二三x")),
])  # fmt: skip
def test_a_text_or_what_is_wrong_with_it(value: Any, column: str | None, wanted: Any) -> None:
    assert text_document(value, column, max_bytes=9) == wanted


def test_a_row_as_a_conversation_or_what_is_wrong_with_it() -> None:
    columns = {"prompt": "q", "completion": "completion", "tools": "tools"}
    row = {"q": "Hi", "completion": "Hello"}
    made = conversation_document(row, "prompt_completion", columns, 1000)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert made == Conversation(messages, [False, None])
    size = len(made.serialized)
    assert conversation_document(row, "prompt_completion", columns, size) == made
    assert conversation_document(row, "prompt_completion", columns, size - 1) == Fault(too_long(size, size - 1))
    assert conversation_document({}, "prompt_completion", columns, 1000) == Fault("q: must be text, this is missing")
    assert conversation_document(Fault("bad"), "prompt_completion", columns, 1000) == Fault("bad")
    for empty in (row | {"q": " ", "completion": "\n"}, {"q": [], "completion": []}, Empty()):
        assert conversation_document(empty, "prompt_completion", columns, 1000) == Empty()
    half = conversation_document({"q": "\ud800", "completion": ""}, "prompt_completion", columns, 1000)
    assert isinstance(half, Fault)
    assert "surrogates not allowed" in half.reason
    dated = conversation_document(
        row | {"tools": [{"name": "f", "since": datetime.date(2024, 1, 1)}]}, "prompt_completion", columns, 1000
    )
    assert dated == Fault(
        "tools and arguments must be JSON: Object of type date is not JSON serializable; write them as JSON text"
    )


def test_the_size_of_a_document_that_is_too_long() -> None:
    assert too_long(12_345_678, 10_000_000) == (
        f"a document of 12.3 MB is longer than data.max_document_mb=10; {SPLIT}"
    )


@pytest.mark.parametrize(("rows", "column"), [
    ([{"body": "a", "text": "b"}], "text"),
    ([{"body": "a"}, {"text": 1}], "text"),
    ([{"body": "a", "id": 1}], "body"),
    ([7, {"body": "a"}, {"other": "b"}], "body"),
    ([], "text"),
    ([[]], "text"),
    ([{"body": "a"}] * 100 + [{"text": "b"}], "body"),
])  # fmt: skip
def test_the_column_of_the_text(rows: list[Any], column: str) -> None:
    assert find_text_column("rows.jsonl", rows) == column


@pytest.mark.parametrize(("row", "there"), [({"a": "x", "b": "y"}, "'a', 'b'"), ({"a": 1}, "'a'")])
def test_no_column_or_two_that_may_be_the_text(row: dict[str, Any], there: str) -> None:
    with pytest.raises(DataError) as caught:
        find_text_column("rows.jsonl", [row])
    assert caught.value.problems == [
        f"rows.jsonl: no text column of strings among {there}. Name it in data.sources, as columns: [<name>]"
    ]


def test_names_and_beginnings_for_messages() -> None:
    assert [names([]), names("ab"), names("abc", most=2)] == ["none", "'a', 'b'", "'a', 'b' and more"]
    assert names(["x" * 99]) == "'" + "x" * 59
    assert beginning("a" * 300) == "a" * 200
    assert beginning({"a": "一", "b": None}) == '{"a": "一", "b": null}'
    assert beginning("one \n") == "one"
