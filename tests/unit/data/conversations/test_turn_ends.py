"""Where answers end, and answers that a template renders differently than they were said: refused."""

import pytest

from unit.template_cases import (
    BYE,
    CASES,
    HELLO,
    HI,
    SEE_YOU,
    TEMPLATES,
    THREE,
    assistant,
    called,
    changed,
    chat_template,
    learned,
    refusal,
    shares,
    talk,
    thinking,
)  # fmt: skip


@pytest.mark.parametrize("content, shown", [
    ("turn.content | upper", "HELLO."),
    ("turn.content[:3]", "Hel"),
    ("turn.content[:-3] ~ turn.content[-1:]", "Hel."),
    ("turn.content[-2:]", "o."),
    ("turn.content if turn.content | length < 4", ""),
    ("turn.content ~ '\\n' ~ turn.content", "Hello.\\nHello."),
])  # fmt: skip
def test_an_answer_that_is_changed_is_refused(content: str, shown: str) -> None:
    template = chat_template(changed(content))
    wanted = f"message 1: the template renders '{shown}' where the answer 'Hello.' should be"
    assert refusal(template, CASES["single"]) == wanted
    assert refusal(template, talk(HI, HELLO, BYE)) == wanted
    tagged = TEMPLATES["tags_without_end"].replace("turn.content", f"({content})")
    assert refusal(chat_template(tagged), CASES["single"]) == wanted


def test_what_stands_around_every_answer_is_learned_with_it() -> None:
    template = chat_template(changed("'final: ' ~ turn.content if turn.role == 'assistant' else turn.content"))
    assert learned(template, CASES["multi"]) == ["final: Hello.<|im_end|>", "final: See you.<|im_end|>"]
    template = chat_template(changed("turn.content ~ '</answer>' if turn.role == 'assistant' else turn.content"))
    assert learned(template, CASES["multi"]) == ["Hello.</answer><|im_end|>", "See you.</answer><|im_end|>"]
    once = changed("turn.content ~ (' Really.' if turn.content == 'Hello.')")
    assert refusal(chat_template(once), CASES["multi"]) == (
        "message 1: the template renders 'Hello. Really.' where the answer 'Hello.' should be"
    )


def test_earlier_answers_that_end_otherwise_are_learned_with_their_own_end() -> None:
    source = "{% for t in messages %}[{{ t.content }}{{ '</s>' if loop.last and t.role == 'assistant' else '<s>' }}"
    source += "{% endfor %}{% if add_generation_prompt %}[{% endif %}"
    template, last = chat_template(source), chat_template(source, learn="last")
    assert learned(template, CASES["multi"]) == ["Hello.<s>", "See you.</s>"]
    assert template.ends == {"<s>", "</s>"}
    assert shares(last.fragments(CASES["multi"])) == ["[Hi<s>[Hello.<s>[Bye<s>[", "See you.</s>"]


def test_what_follows_the_conversation_is_not_learned() -> None:
    closed = TEMPLATES["tools_in_system"] + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    template = chat_template(closed)
    assert template.end == "<|im_end|>"
    for case in ("single", "tools"):
        *said, rest = shares(chat_template("tools_in_system").fragments(CASES[case]))
        assert rest == "\n"
        assert shares(template.fragments(CASES[case])) == [*said, "\n</s>"]
    assert learned(template, talk(HI, called("add", a=1)))[0].endswith("</tool_call><|im_end|>")


@pytest.mark.parametrize("call, reason", [
    ("call.function.name", "message 1: the template leaves out the call of 'add'"),
    ("call.function.arguments | tojson", "message 1: the template leaves out the call of 'add'"),
    (
        "call.function.name ~ dict(call.function.arguments)",
        "message 1: the template writes arguments as Python, not as JSON",
    ),
    (
        "call.function | tojson if loop.last and not turns.more",
        "message 1: the template renders the call otherwise when more is said",
    ),
    (
        "call.function | tojson(indent=1 if turns.more else none)",
        "message 1: the template renders the call otherwise when more is said",
    ),
])  # fmt: skip
def test_a_call_that_is_changed_is_refused(call: str, reason: str) -> None:
    source = TEMPLATES["tools_drop_reasoning"].replace("call.function | tojson", call)
    source = source.replace(
        "{{- turn.content }}", "{%- set turns = namespace(more=not loop.last) %}{{- turn.content }}"
    )
    assert refusal(chat_template(source), CASES["tools"]) == reason


def test_a_call_that_looks_otherwise_in_history_is_refused() -> None:
    head = "{{- turn.content }}"
    thought = called("add", a=1) | {"reasoning_content": "Add."}
    for source in (
        TEMPLATES["tools_drop_reasoning"].replace(
            head, head + "{{- 'Now: ' if turn.tool_calls and loop.last else '' }}"
        ),
        TEMPLATES["tools_drop_reasoning"].replace(head, head + "{{- 'Then: ' if turn.tool_calls and not loop.last }}"),
    ):
        template = chat_template(source)
        for message in (called("add", a=1), thought):
            assert refusal(template, talk(HI, message, THREE, HELLO)) == (
                "message 1: the template renders the call otherwise when more is said"
            )


def test_a_call_that_is_left_out_with_its_reasoning_is_refused() -> None:
    call = "{{- '<tool_call>' ~ (call.function | tojson) ~ '</tool_call>' }}"
    source = TEMPLATES["tools_drop_reasoning"].replace(call, "{%- if not turns.dropped %}" + call + "{%- endif %}")
    dropped = "{%- set turns = namespace(dropped=loop.index0 <= seen.question) %}{{- turn.content }}"
    template = chat_template(source.replace("{{- turn.content }}", dropped))
    conversation = talk(HI, called("add", a=1) | {"reasoning_content": "Add."}, THREE, HELLO, BYE, SEE_YOU)
    assert refusal(template, conversation) == "message 1: the template leaves out the call of 'add'"
    assert len(learned(chat_template("tools_drop_reasoning"), conversation)) == 3


# ---- reasoning, and tokens of calls ----


def test_reasoning_that_a_template_does_not_know_is_refused() -> None:
    template = chat_template("chatml")
    assert refusal(template, talk(HI, thinking("Hello.", "Greet."))) == (
        "message 1: the template leaves out the reasoning of the last answer"
    )
    spelled = assistant("<think>Greet.</think>Hello.")
    assert learned(template, talk(HI, spelled)) == ["<think>Greet.</think>Hello.<|im_end|>"]


def test_reasoning_under_its_other_name() -> None:
    template = chat_template(changed("(turn.thinking ~ ': ' if turn.thinking else '') ~ turn.content"))
    assert learned(template, talk(HI, thinking("Hello.", "Greet"))) == ["Greet: Hello.<|im_end|>"]


def test_a_call_ends_with_a_token_of_its_own() -> None:
    template = chat_template("headers")
    assert template.end == "<|eot_id|>"
    assert learned(template, talk(HI, called("add", a="<|eot_id|>"))) == [
        '{"name": "add", "arguments": {"a": "<|eot_id|>"}}<|eom_id|>'
    ]
    assert learned(template, talk(HI, called("add"), THREE, called("sub"), THREE, HELLO)) == [
        '{"name": "add", "arguments": {}}<|eom_id|>',
        '{"name": "sub", "arguments": {}}<|eom_id|>',
        "Hello.<|eot_id|>",
    ]
