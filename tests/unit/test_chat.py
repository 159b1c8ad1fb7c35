import json
from typing import Any

import pytest

from trainyard.data.chat import COLUMNS, FORMATS, Conversation, ConversationError, Message, parse


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


SPEAKERS = "system, human, user, gpt, assistant, bot, function_call, observation, tool, function_response"
TALK = [user("Hi"), assistant("Hello")]

MISTAKES = [
    ("alpaca", ["Hi"], "a conversation is an object, this is a list"),
    ("alpaca", {"output": "a"}, "instruction: must be text, this is missing"),
    ("alpaca", {"instruction": "q"}, "output: must be text, this is missing"),
    ("alpaca", {"instruction": "q", "output": 7}, "output: must be text, this is int '7'"),
    ("alpaca", {"instruction": "q", "input": ["x"], "output": "a"}, "input: must be text, this is list \"['x']\""),
    ("alpaca", {"instruction": "", "input": "", "output": "a"}, "instruction and input are empty"),
    ("alpaca", {"instruction": "q", "output": "a", "system": 1}, "system: must be text, this is int '1'"),
    ("alpaca", {"instruction": "q", "output": "a", "history": "no"}, "history: must be a list, this is str 'no'"),
    (
        "alpaca",
        {"instruction": "q", "output": "a", "history": [["q", "a"], ["q"]]},
        "history[1]: must be a pair of question and answer, this is list \"['q']\"",
    ),
    (
        "alpaca",
        {"instruction": "q", "output": "a", "history": [["q", None]]},
        "history[0]: must be text, this is missing",
    ),
    ("sharegpt", {}, "conversations: must be a list, this is missing"),
    ("sharegpt", {"conversations": []}, "no message of the assistant, so there is nothing to learn"),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "q"}]},
        "no message of the assistant, so there is nothing to learn",
    ),
    (
        "sharegpt",
        {"conversations": ["q"]},
        "conversations[0]: must be an object with from and value, this is str 'q'",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "robot", "value": "q"}]},
        f"conversations[0].from=str 'robot': must be one of {SPEAKERS}",
    ),
    ("sharegpt", {"conversations": [{"value": "q"}]}, f"conversations[0].from=missing: must be one of {SPEAKERS}"),
    ("sharegpt", {"conversations": [{"from": "gpt"}]}, "conversations[0].value: must be text, this is missing"),
    (
        "sharegpt",
        {"conversations": [{"from": "system", "value": "x"}], "system": "y"},
        "conversations[0]: a system message, and system gives another; leave out one",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "function_call", "value": "add(1)"}]},
        "conversations[0].value: not valid JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "function_call", "value": '{"arguments": {}}'}]},
        "conversations[0].value: a call must be an object with name and arguments, this is dict \"{'arguments': {}}\"",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "function_call", "value": "[]"}]},
        "conversations[0].value: a call must be an object with name and arguments, this is list '[]'",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "function_call", "value": '{"name": "add", "arguments": [1]}'}]},
        "conversations[0].value.arguments: must be an object or its JSON text, this is list '[1]'",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "gpt", "value": "a", "weight": 0.5}]},
        "conversations[0].weight=float '0.5': must be 0 or 1, or true or false",
    ),
    ("messages", {}, "messages: must be a list, this is missing"),
    ("messages", {"messages": ["q"]}, "messages[0]: must be an object with role and content, this is str 'q'"),
    (
        "messages",
        {"messages": [{"role": "human", "content": "q"}]},
        "messages[0].role=str 'human': must be one of system, developer, user, assistant, tool",
    ),
    (
        "messages",
        {"messages": [user("q"), {"role": "assistant"}]},
        "messages[1].content: must be text, this is missing",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
        "messages[0].content[0]: a part must be of type text, this is str 'image'",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": ["q"]}]},
        "messages[0].content[0]: a part must be of type text, this is missing",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text: must be text, this is missing",
    ),
    (
        "messages",
        {"messages": [assistant("") | {"tool_calls": {"name": "add"}}]},
        "messages[0].tool_calls: must be a list, this is dict \"{'name': 'add'}\"",
    ),
    (
        "messages",
        {"messages": [assistant("") | {"tool_calls": [call("add", {}), "add"]}]},
        "messages[0].tool_calls[1]: a call must be an object with name and arguments, this is str 'add'",
    ),
    (
        "messages",
        {"messages": [assistant("") | {"tool_calls": [call("add", "{a: 1}")]}]},
        "messages[0].tool_calls[0].arguments: not valid JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
    ),
    (
        "messages",
        {"messages": [assistant("a") | {"reasoning_content": 7}]},
        "messages[0].reasoning_content: must be text, this is int '7'",
    ),
    (
        "messages",
        {"messages": [assistant("a") | {"loss": "yes"}]},
        "messages[0].loss=str 'yes': must be 0 or 1, or true or false",
    ),
    (
        "messages",
        {"messages": TALK, "tools": "[add]"},
        "tools: not valid JSON: Expecting value: line 1 column 2 (char 1)",
    ),
    (
        "messages",
        {"messages": TALK, "tools": ADD},
        "tools: must be a list, this is dict \"{'name': 'add', 'parameters': {'type': '\"",
    ),
    (
        "messages",
        {"messages": TALK, "tools": ["add"]},
        "tools[0]: must describe a function as an object, this is str 'add'",
    ),
    ("prompt_completion", {"prompt": "q"}, "completion: must be text, this is missing"),
    ("prompt_completion", {"prompt": 7, "completion": "a"}, "prompt: must be text, this is int '7'"),
    (
        "prompt_completion",
        {"prompt": [{"role": "user"}], "completion": "a"},
        "prompt[0].content: must be text, this is missing",
    ),
    (
        "prompt_completion",
        {"prompt": "q", "completion": [user("a")]},
        "no message of the assistant, so there is nothing to learn",
    ),
]


@pytest.mark.parametrize("form, row, message", MISTAKES)
def test_a_mistake_is_named_with_value_rule_and_place(form: str, row: Any, message: str) -> None:
    with pytest.raises(ConversationError) as caught:
        read(form, row)
    assert str(caught.value) == message
