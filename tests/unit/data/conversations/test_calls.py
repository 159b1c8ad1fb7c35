"""Calls that a template leaves out, some of them or parts of them, are refused; text with their words does not hide it,
and text that quotes them is no fault.
"""

from typing import Any

import pytest

from trainyard.data.conversations.calls import arguments_of, marked
from trainyard.data.conversations.conversation import Conversation, Message
from unit.template_cases import THREE, assistant, chat_template, learned, refusal, talk, user

EVERY = "{% for call in turn.tool_calls or [] %}<call>{{ CALL }}</call>{% endfor %}"
WHOLE = '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'


def template(calls: str, content: str = "turn.content") -> Any:
    """ChatML whose answers end with their calls, which Jinja source renders."""
    turn = f"{{{{- '<|im_start|>' ~ turn.role ~ '\\n' ~ {content} }}}}{calls}{{{{- '<|im_end|>\\n' }}}}"
    prompt = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    return chat_template(f"{{%- for turn in messages %}}{turn}{{% endfor %}}{prompt}")


def every(call: str) -> Any:
    return template(EVERY.replace("{{ CALL }}", call))


def called(*calls: tuple[str, dict[str, Any]], text: str = "", **more: Any) -> Message:
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return assistant(text, tool_calls=made, **more)


def asked(message: Message) -> Conversation:
    return talk(user("Rome and Oslo?"), message, THREE, assistant("Hot."))


ROME, OSLO = ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})


def test_calls_are_learned_with_all_that_they_hold() -> None:
    values: dict[str, Any] = {
        "text": 'say "hi"\n<b>é', "number": 3, "share": 0.5, "yes": True, "none": None, "empty": "", "blank": " ",
        "nested": {"list": [1, "one", {"deep": False}], "nothing": {}},
    }  # fmt: skip
    (first, _) = learned(every(WHOLE), asked(called(ROME, OSLO, ("add", values), ("now", {}))))
    assert first.count("<call>") == 4
    one_by_one = every("{{ call.function.name }}{% for key, value in call.function.arguments.items() %}"
                       "<{{ key }}>{{ value if value is string else value | tojson }}{% endfor %}")  # fmt: skip
    assert learned(one_by_one, asked(called(ROME, ("add", values))))[0].startswith("<call>weather<city>Rome</call>")
    escaped = every("{{ call.function.name }}{{ call.function.arguments | tojson(ensure_ascii=true) }}")
    assert "\\u00e9" in learned(escaped, asked(called(("add", values))))[0]


@pytest.mark.parametrize("calls", [
    "",  # no call at all
    "{% for call in (turn.tool_calls or [])[:1] %}" + WHOLE + "{% endfor %}",
    "{% for call in (turn.tool_calls or [])[1:] %}" + WHOLE + "{% endfor %}",
    EVERY.replace("{{ CALL }}", "{{ call.function.name }}"),
    EVERY.replace("{{ CALL }}", "{{ call.function.name }} {{ call.function.arguments.keys() | list | tojson }}"),
    EVERY.replace("{{ CALL }}", "{{ call.function.arguments | tojson }}"),
    "{% for call in turn.tool_calls or [] %}{{ call.function.name }}{% endfor %}"
    "{% if turn.tool_calls %}{{ turn.tool_calls[0].function.arguments | tojson }}{% endif %}",
])  # fmt: skip
@pytest.mark.parametrize("text", ["", "I will use weather for the city of Rome, weather for the city of Oslo."])
def test_a_call_that_is_left_out_is_refused_whatever_the_text_says(calls: str, text: str) -> None:
    for second in (OSLO, ROME):
        for more in ({}, {"reasoning_content": text}):
            wanted = "message 1: the template leaves out the call of 'weather'"
            assert refusal(template(calls), asked(called(ROME, second, text=text, **more))) == wanted


@pytest.mark.parametrize(
    "call", ["{{ call.function.name }}", "{{ call.function.arguments.a }} {{ call.function.name }}"]
)
def test_values_that_stand_in_the_template_by_chance_are_no_arguments(call: str) -> None:
    """Of a, l and c, all letters of the template's own <call>."""
    for arguments in ({"a": "l", "c": "a"}, {"a": "a", "c": "c"}):
        assert refusal(every(call), asked(called(("all", arguments)))) == (
            "message 1: the template leaves out the call of 'all'"
        )


@pytest.mark.parametrize(("call", "arguments"), [
    ("{{ call.function.name }} {{ call.function.arguments.city[:3] }} city", {"city": "Bern"}),
    ("{{ call.function.name }} {{ call.function.arguments.city | upper }} city", {"city": "Bern"}),
    ("{{ call.function.name[:3] }} {{ call.function.arguments | tojson }}", {"city": "Bern"}),
    ("{{ call.function.name }} {{ call.function.arguments.days | string | length }} days", {"days": 14}),
])  # fmt: skip
def test_a_value_that_is_changed_is_refused(call: str, arguments: dict[str, Any]) -> None:
    assert refusal(every(call), asked(called(("weather", arguments)))).endswith("leaves out the call of 'weather'")


def test_text_that_quotes_arguments_as_python_is_no_fault() -> None:
    whole = template(EVERY.replace("{{ CALL }}", WHOLE), "(turn.reasoning_content | default('')) ~ turn.content")
    quoted = "The arguments are {'city': 'Rome'}."
    for message in (called(ROME, text=quoted), called(ROME, reasoning_content=quoted)):
        assert learned(whole, asked(message))[0].startswith(quoted)
    python = every("{{ call.function.name }} {{ dict(call.function.arguments) }}")
    wanted = "message 1: the template writes arguments as Python, not as JSON"
    assert refusal(python, asked(called(ROME))) == wanted
    assert refusal(python, asked(called(ROME, text=quoted))) == wanted
    pairs = "{% for key, value in call.function.arguments.items() %}{{ key }}{{ value }}{% endfor %}"
    nested = every("{{ call.function.name }}" + pairs)
    assert refusal(nested, asked(called(("weather", {"at": {"city": "Rome"}})))) == wanted


def test_a_template_that_knows_the_names_of_its_functions() -> None:
    """It renders only these, so marks in their place show nothing, and the words of the call are counted."""
    known = every("{% if call.function.name in ['weather', 'add'] %}" + WHOLE + "{% endif %}")
    raising = every("{% if call.function.name != 'weather' %}{{ raise_exception('unknown') }}{% endif %}" + WHOLE)
    text = "Let me call weather for the city of Rome."
    for source in (known, raising):
        assert len(learned(source, asked(called(ROME, OSLO, text=text)))) == 2
    assert refusal(known, asked(called(("book", {"seat": 1}), text="I will book a seat, 1 of them."))) == (
        "message 1: the template leaves out the call of 'book'"
    )


def test_marks_have_the_types_of_the_values() -> None:
    message = called(("f", {"a": "x", "b": 1, "c": [0.5, True, None, ""]}), ("f", {}))
    first, second = marked(message)
    values = arguments_of(first.call)
    assert [type(value) for value in (values["a"], values["b"], *values["c"])] == [
        str,
        int,
        float,
        bool,
        type(None),
        str,
    ]
    assert (len(first.marks), len(second.marks), len({*first.marks, *second.marks})) == (4, 1, 5)
    assert not first.shown_in("".join(first.marks[1:]))
    assert first.shown_in("".join(first.marks))
