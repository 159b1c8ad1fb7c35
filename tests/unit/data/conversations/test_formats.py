"""Rows of every format as conversations, and what is wrong with rows that are not."""

import json
from typing import Any

import pytest
import yaml
from conftest import ROOT

from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.formats import COLUMNS, FORMATS, parse
from trainyard.errors import ConversationError


def read(form: str, row: Any, **columns: str) -> Conversation:
    return parse(row, form, {name: name for name in COLUMNS[form]} | columns)


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def tool(text: str) -> Message:
    return {"role": "tool", "content": text}


def call(name: str, arguments: Any, **more: str) -> Message:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


ADD = {"name": "add", "parameters": {"type": "object"}}
ADD_TOOL = {"type": "function", "function": ADD}


def test_every_format_has_columns() -> None:
    assert FORMATS == tuple(COLUMNS) == ("alpaca", "sharegpt", "messages", "prompt_completion")


def test_alpaca() -> None:
    row = {"instruction": "Translate.", "input": "Hallo", "output": "Hello"}
    assert read("alpaca", row) == Conversation([user("Translate.\nHallo"), assistant("Hello")], [None, None])


@pytest.mark.parametrize("nothing", [{}, {"input": ""}, {"input": None, "history": None, "system": None}])
def test_alpaca_of_an_instruction_alone(nothing: dict[str, Any]) -> None:
    row = {"instruction": "Hi", "output": "", **nothing}
    assert read("alpaca", row) == Conversation([user("Hi"), assistant("")], [None, None])


def test_alpaca_of_an_input_alone() -> None:
    row = {"instruction": "", "input": "Hi", "output": "Hello"}
    assert read("alpaca", row).messages == [user("Hi"), assistant("Hello")]


def test_alpaca_with_history_and_system() -> None:
    row = {
        "instruction": "And now?",
        "output": "Later.",
        "history": [["Hi", "Hello"], ["When?", "Soon."]],
        "system": "Be brief.",
    }
    assert read("alpaca", row) == Conversation(
        [
            system("Be brief."),
            user("Hi"),
            assistant("Hello"),
            user("When?"),
            assistant("Soon."),
            user("And now?"),
            assistant("Later."),
        ],
        [None] * 7,
    )


def test_sharegpt_with_every_speaker() -> None:
    turns = [
        ("system", "Be brief."),
        ("human", "1+2?"),
        ("function_call", '{"name": "add", "arguments": {"a": 1, "b": 2}}'),
        ("observation", "3"),
        ("gpt", "It is 3."),
        ("user", "And 2+2?"),
        ("function_call", '[{"name": "add", "arguments": "{\\"a\\": 2}"}, {"name": "stop"}]'),
        ("tool", "4"),
        ("function_response", "stopped"),
        ("assistant", "It is 4."),
        ("Human", "Thanks"),
        ("bot", "Bye"),
    ]
    row = {"conversations": [{"from": who, "value": what} for who, what in turns], "tools": json.dumps([ADD])}
    assert read("sharegpt", row) == Conversation(
        [
            system("Be brief."),
            user("1+2?"),
            assistant("") | {"tool_calls": [call("add", {"a": 1, "b": 2})]},
            tool("3"),
            assistant("It is 3."),
            user("And 2+2?"),
            assistant("") | {"tool_calls": [call("add", {"a": 2}), call("stop", {})]},
            tool("4"),
            tool("stopped"),
            assistant("It is 4."),
            user("Thanks"),
            assistant("Bye"),
        ],
        [None] * 12,
        [ADD_TOOL],
    )


def test_sharegpt_of_belle() -> None:
    row = {"id": "7", "conversations": [{"from": "human", "value": "你好"}, {"from": "assistant", "value": "您好"}]}
    assert read("sharegpt", row) == Conversation([user("你好"), assistant("您好")], [None, None])


def test_sharegpt_with_a_system_column_flags_and_role_and_content() -> None:
    row = {
        "system": "Be brief.",
        "conversations": [
            {"role": "user", "content": "Hi", "loss": True},
            {"role": "assistant", "content": "Hello", "loss": False},
            {"from": "human", "value": "Bye"},
            {"from": "gpt", "value": "See you", "weight": 1},
        ],
    }
    assert read("sharegpt", row) == Conversation(
        [system("Be brief."), user("Hi"), assistant("Hello"), user("Bye"), assistant("See you")],
        [None, True, False, None, True],
    )


@pytest.mark.parametrize("form, row", [
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}),
    ("messages", {"messages": [user("Hi"), assistant("Hello")]}),
    ("prompt_completion", {"prompt": "Hi", "completion": "Hello"}),
])  # fmt: skip
def test_tools_in_every_shape(form: str, row: dict[str, Any]) -> None:
    for none in (None, "", [], "[]", "null"):
        assert read(form, row | {"tools": none}).tools is None
    for tools in ([ADD], [ADD_TOOL], json.dumps([ADD]), json.dumps([ADD_TOOL])):
        assert read(form, row | {"tools": tools}).tools == [ADD_TOOL]


def test_messages() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "value": "2?"}], "weight": 0},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "A sum.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
                    {"function": {"name": "add", "arguments": {"a": 2}}},
                ],
                "loss_weight": 0.0,
            },
            {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"},
            {"role": "assistant", "content": "3.", "thinking": "So 3.", "train": True},
            {"role": "assistant", "content": "Yes.", "reasoning": "Sure.", "loss": 1.0},
        ],
        "tools": [ADD_TOOL],
    }
    assert read("messages", row) == Conversation(
        [
            {"role": "developer", "content": "Be brief."},
            user("1+2?"),
            assistant("")
            | {
                "tool_calls": [call("add", {"a": 1, "b": 2}, id="c1"), call("add", {"a": 2})],
                "reasoning_content": "A sum.",
            },
            tool("3") | {"name": "add", "tool_call_id": "c1"},
            assistant("3.") | {"reasoning_content": "So 3."},
            assistant("Yes.") | {"reasoning_content": "Sure."},
        ],
        [None, False, False, None, True, True],
        [ADD_TOOL],
    )


def test_prompt_and_completion_as_texts() -> None:
    row = {"prompt": "Hi", "completion": "Hello"}
    assert read("prompt_completion", row) == Conversation([user("Hi"), assistant("Hello")], [False, None])


def test_prompt_and_completion_as_messages() -> None:
    row = {
        "prompt": [system("Be brief."), user("Hi"), assistant("Hello"), user("1?") | {"weight": 1}],
        "completion": [assistant("One.") | {"weight": 0}, assistant("1.")],
    }
    assert read("prompt_completion", row) == Conversation(
        [system("Be brief."), user("Hi"), assistant("Hello"), user("1?"), assistant("One."), assistant("1.")],
        [False, False, False, True, False, None],
    )


def test_columns_by_other_names() -> None:
    row = {"q": "Hi", "instruction": 7, "a": "Hello", "sys": "Be brief."}
    assert read("alpaca", row, instruction="q", output="a", system="sys").messages == [
        system("Be brief."),
        user("Hi"),
        assistant("Hello"),
    ]
    with pytest.raises(ConversationError, match=r"^a: must be text, this is missing$"):
        read("alpaca", {"q": "Hi"}, instruction="q", output="a")


def test_calls_and_functions_of_the_earlier_api() -> None:
    """Columns and fields before tools and tool_calls: functions, function_call and the role function."""
    turns = [
        user("1+2?"),
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "add", "content": "3"},
        assistant("3."),
    ]
    assert read("messages", {"messages": turns, "functions": [ADD]}) == Conversation(
        [
            user("1+2?"),
            assistant("") | {"tool_calls": [call("add", {"a": 1})]},
            tool("3") | {"name": "add"},
            assistant("3."),
        ],
        [None] * 4,
        [ADD_TOOL],
    )
    with pytest.raises(ConversationError, match=r"^both tools and functions; leave out one$"):
        read("messages", {"messages": turns, "functions": [ADD], "tools": [ADD]})


def test_sharegpt_with_the_fields_of_messages() -> None:
    row = {"conversations": [
        {"role": "user", "content": [{"type": "text", "text": "1+2?"}]},
        {"role": "assistant", "content": "", "reasoning_content": "Add.", "tool_calls": [{"name": "add"}]},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"from": "gpt", "value": "3.", "thinking": "So 3."},
    ]}  # fmt: skip
    assert read("sharegpt", row).messages == [
        user("1+2?"),
        assistant("") | {"reasoning_content": "Add.", "tool_calls": [call("add", {})]},
        tool("3") | {"tool_call_id": "c1"},
        assistant("3.") | {"reasoning_content": "So 3."},
    ]


def test_a_first_message_of_the_assistant_is_not_learned_unless_its_flag_asks_for_that() -> None:
    turns = [assistant("Welcome."), user("Hi"), assistant("Hello")]
    rows = {"messages": {"messages": turns}, "sharegpt": {"conversations": turns}}
    for form, row in rows.items():
        assert read(form, row) == Conversation(turns, [False, None, None])
    learned = read("messages", {"messages": [turns[0] | {"weight": 1}, *turns[1:]]})
    assert learned.learn == [True, None, None]
    assert read("messages", {"messages": [system("Be brief."), *turns]}).learn == [None] * 4


@pytest.mark.parametrize(("form", "row"), [
    ("alpaca", {"instruction": "", "output": " "}),
    ("alpaca", {"instruction": "", "input": "", "output": "", "system": "Be brief.", "history": []}),
    ("sharegpt", {"conversations": []}),
    ("messages", {"messages": [user(" \n"), assistant("")]}),
    ("messages", {"messages": [system("Be brief.")], "tools": [ADD]}),
    ("prompt_completion", {"prompt": "", "completion": "\u3000"}),
])  # fmt: skip
def test_a_row_without_text_is_an_empty_conversation(form: str, row: dict[str, Any]) -> None:
    assert read(form, row).is_empty


MISTAKES = yaml.safe_load((ROOT / "tests" / "data" / "mistaken_rows.yaml").read_text())


@pytest.mark.parametrize("form, mistake", [(form, mistake) for form in FORMATS for mistake in MISTAKES[form]])
def test_a_mistake_is_named_with_value_rule_and_place(form: str, mistake: dict[str, Any]) -> None:
    with pytest.raises(ConversationError) as caught:
        read(form, mistake["row"])
    assert str(caught.value) == mistake["message"]


def test_mistakes_are_of_every_format() -> None:
    assert set(MISTAKES) == set(FORMATS)
    assert sum(map(len, MISTAKES.values())) == 41
