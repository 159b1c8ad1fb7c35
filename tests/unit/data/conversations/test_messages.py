"""A message in its one shape, and what is said about fields that cannot be learned."""

from typing import Any

import pytest

from trainyard.data.conversations.messages import as_message
from trainyard.errors import ConversationError

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
THOUGHT = {"type": "thinking", "thinking": "Sum."}
TEXT = {"type": "text", "text": "Wait."}


def read(turn: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    made = as_message(turn, role, "content", "m[0]")
    assert made.pop("role") == role
    return made


@pytest.mark.parametrize(
    ("turn", "wanted"),
    [
        ({"content": "Hi"}, {"content": "Hi"}),
        ({"content": None, "tool_calls": [CALL]}, {"content": "", "tool_calls": [CALL]}),
        (
            {"content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}},
            {"content": "", "tool_calls": [CALL]},
        ),
        (
            {"content": "Wait.", "function_call": CALL["function"], "tool_calls": None},
            {"content": "Wait.", "tool_calls": [CALL]},
        ),
        ({"content": "Hi", "function_call": None, "images": [], "audio": None, "refusal": None}, {"content": "Hi"}),
        ({"content": []}, {"content": ""}),
        ({"content": [TEXT, {"type": "output_text", "value": " Go."}]}, {"content": "Wait. Go."}),
        (
            {"content": [THOUGHT, TEXT, {"type": "tool_call", "tool_call": CALL}]},
            {"content": "Wait.", "reasoning_content": "Sum.", "tool_calls": [CALL]},
        ),
        (
            {
                "content": [
                    {"type": "reasoning", "text": "Sum"},
                    {"type": "reasoning", "reasoning": "."},
                    {"type": "tool_use", "name": "add", "input": {"a": 1}},
                    {"type": "function_call", "name": "add", "arguments": '{"a": 1}'},
                    {"type": "text", "text": "\n"},
                ]
            },
            {"content": "", "reasoning_content": "Sum.", "tool_calls": [CALL, CALL]},
        ),
        ({"content": [TEXT, CALL | {"type": "tool_call"}]}, {"content": "Wait.", "tool_calls": [CALL]}),
    ],
)
def test_content_calls_and_reasoning_wherever_they_stand(turn: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert read(turn) == wanted


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({}, "m[0].content: must be text, this is missing"),
        (
            {"content": None, "function_call": "auto"},
            "m[0].function_call: a call must be an object with name and arguments, this is str 'auto'",
        ),
        (
            {"content": "", "function_call": CALL["function"], "tool_calls": [CALL]},
            "m[0]: both tool_calls and function_call; leave out one",
        ),
        (
            {"content": "", "refusal": "No."},
            "m[0].refusal: a refusal beside the content; make it the content, or leave it out",
        ),
        (
            {"content": "Who?", "images": ["1.jpg"]},
            "m[0].images: this conversation is about images, and only text is trained; leave such rows out",
        ),
        (
            {"content": [TEXT, {"type": "image", "image": "x"}]},
            "m[0].content[1]: a part must be of type text, this is str 'image'",
        ),
        ({"content": ["Hi"]}, "m[0].content[0]: a part must be of type text, this is missing"),
        ({"content": [{"type": "text"}]}, "m[0].content[0].text: must be text, this is missing"),
        (
            {"content": [CALL | {"type": "tool_call"}, TEXT]},
            "m[0].content[1]: text behind a call; make it a message of its own",
        ),
        (
            {"content": [TEXT, THOUGHT]},
            "m[0].content[1]: reasoning behind text or a call; make it a message of its own",
        ),
    ],
)
def test_a_field_that_cannot_be_learned_is_named(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversationError) as caught:
        read(turn)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"content": "", "tool_calls": [CALL]}, "m[0]: a call of the role user; only the assistant calls functions"),
        (
            {"content": "", "function_call": CALL["function"]},
            "m[0]: a call of the role user; only the assistant calls functions",
        ),
        ({"content": [THOUGHT]}, "m[0].content[0]: a part must be of type text, this is str 'thinking'"),
        (
            {"content": [{"type": "tool_result"}]},
            "m[0].content[0]: a part must be of type text, this is str 'tool_result'",
        ),
    ],
)
def test_only_the_assistant_calls_and_reasons(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversationError) as caught:
        read(turn, "user")
    assert str(caught.value) == message
