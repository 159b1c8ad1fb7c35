"""Templates get the arguments of calls as they take them: objects, or their JSON text."""

from typing import Any

import pytest

from trainyard.data.conversations.arguments import Arguments
from trainyard.data.conversations.rendering import Renderer
from unit.template_cases import HI, TEMPLATES, THREE, assistant, called, chat_template, learned, talk, thinking

CALL = (
    "{% for m in messages %}{% for call in m.tool_calls or [] %}{{ call.function.name }} ARGUMENTS{% endfor %}"
    "{% endfor %}"
)
OBJECTS = {
    "json": "{{ call.function.arguments | tojson }}",
    "either": "{% set a = call.function.arguments %}{{ a if a is string else a | tojson }}",
    "one by one": "{% for key, value in call.function.arguments.items() %}{{ key }}={{ value }}{% endfor %}",
    "refused": "{{ raise_exception('no calls') }}",
    "left out": "",
}
TEXT = {
    "joined": "{{ ' ' + call.function.arguments }}",
    "printed": "{{ call.function.arguments }}",
    "of strings alone": "{% if call.function.arguments is string %}{{ call.function.arguments }}{% endif %}",
}


def shape(call: str, *messages: Any) -> Arguments:
    arguments = Arguments(Renderer(CALL.replace("ARGUMENTS", call), {}))
    arguments([HI, *messages], None)
    return arguments


@pytest.mark.parametrize("call", OBJECTS.values(), ids=[*OBJECTS])
def test_objects_stay_objects(call: str) -> None:
    messages = [HI, called("add", a="é", b=2)]
    assert shape(call, messages[1])(messages, None) == messages


@pytest.mark.parametrize("call", TEXT.values(), ids=[*TEXT])
def test_a_template_that_takes_text_alone_gets_text(call: str) -> None:
    arguments = shape(call, called("add", a=1))
    (hi, message) = arguments([HI, called("add", a="é", b=2)], None)
    assert hi == HI
    assert [each["function"]["arguments"] for each in message["tool_calls"]] == ['{"a": "é", "b": 2}']
    assert arguments([HI, assistant("Hello.")], None) == [HI, assistant("Hello.")]


def test_calls_without_arguments_decide_nothing() -> None:
    arguments = shape(TEXT["printed"], called("now"))
    assert arguments([HI, called("now")], None) == [HI, called("now")]
    assert arguments([HI, called("add", a=1)], None)[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_reasoning_that_quotes_python_does_not_decide() -> None:
    thought = called("add", a=1) | {"reasoning_content": "{'a': 1}"}
    source = CALL.replace("ARGUMENTS", "{{ m.reasoning_content }}" + OBJECTS["json"])
    assert Arguments(Renderer(source, {}))([HI, thought], None) == [HI, thought]


def test_calls_as_text_are_learned_and_lead_to_the_next_answer() -> None:
    source = TEMPLATES["tools_drop_reasoning"].replace(
        "call.function | tojson", "call.function.name ~ call.function.arguments"
    )
    template = chat_template(source)
    conversation = talk(HI, called("add", a="<|im_end|>"), THREE, thinking("It is 3.", "So."))
    assert learned(template, conversation)[0] == '<tool_call>add{"a": "<|im_end|>"}</tool_call><|im_end|>'
    prompt = template.prompt(conversation.messages[:3])
    assert 'add{"a": "<|im_end|>"}' in "".join(fragment.text for fragment in prompt.fragments)
