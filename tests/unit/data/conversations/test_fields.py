"""The fields of a row in their one shape, and what is said about others."""

from collections.abc import Callable
from typing import Any

import pytest

from trainyard.data.conversations.fields import (
    as_call,
    as_json,
    as_list,
    as_text,
    as_tools,
    learn_flag,
    shown,
)
from trainyard.errors import ConversationError


@pytest.mark.parametrize(("field", "value", "wanted"), [
    (as_text, "", ""),
    (as_list, [1], [1]),
    (as_json, '{"a": [1, null]}', {"a": [1, None]}),
    (as_json, {"a": 1}, {"a": 1}),
    (as_json, None, None),
    (as_call, {"name": "f"}, {"type": "function", "function": {"name": "f", "arguments": {}}}),
    (
        as_call,
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}, "id": "c1"},
    ),
    (
        as_call,
        {"id": 7, "name": "f", "parameters": {"a": 1}},
        {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
    ),
    (
        as_call,
        {"name": "f", "input": {"a": 1}, "function": None},
        {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
    ),
    (as_tools, "", None),
    (as_tools, "[]", None),
    (as_tools, '[{"name": "f"}]', [{"type": "function", "function": {"name": "f"}}]),
    (as_tools, [{"type": "function", "function": {"name": "f"}}], [{"type": "function", "function": {"name": "f"}}]),
    (learn_flag, {}, None),
    (learn_flag, {"weight": None, "loss": 0.0}, False),
    (learn_flag, {"weight": 1, "train": False}, True),
])  # fmt: skip
def test_a_field_in_its_shape(field: Callable[[Any, str], Any], value: Any, wanted: Any) -> None:
    assert field(value, "place") == wanted


@pytest.mark.parametrize(("field", "value", "message"), [
    (as_text, None, "place: must be text, this is missing"),
    (as_text, 3, "place: must be text, this is int '3'"),
    (as_list, "x" * 99, f"place: must be a list, this is str '{'x' * 40}'"),
    (as_json, "", "place: not valid JSON: Expecting value: line 1 column 1 (char 0)"),
    (as_text, 1.5, "place: must be text, this is float '1.5'"),
    (as_call, "f", "place: a call must be an object with name and arguments, this is str 'f'"),
    (as_call, {"name": 1}, "place: a call must be an object with name and arguments, this is dict \"{'name': 1}\""),
    (
        as_call,
        {"name": "f", "arguments": "[1]"},
        "place.arguments: must be an object or its JSON text, this is list '[1]'",
    ),
    (as_tools, "7", "place: must be a list, this is int '7'"),
    (as_tools, ["f"], "place[0]: must describe a function as an object, this is str 'f'"),
    (learn_flag, {"loss_weight": 0.5}, "place.loss_weight=float '0.5': must be 0 or 1, or true or false"),
    (learn_flag, {"train": "yes"}, "place.train=str 'yes': must be 0 or 1, or true or false"),
])  # fmt: skip
def test_another_shape_is_named_with_place_rule_and_value(
    field: Callable[[Any, str], Any], value: Any, message: str
) -> None:
    with pytest.raises(ConversationError) as caught:
        field(value, "place")
    assert str(caught.value) == message


def test_a_value_for_a_message() -> None:
    assert [shown(value) for value in (None, 1, "a" * 50)] == ["missing", "int '1'", f"str '{'a' * 40}'"]
