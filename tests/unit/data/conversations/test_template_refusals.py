"""Conversations that a template renders differently than they were said, and templates that cannot be used: refused."""

from typing import Any

import pytest

from trainyard.errors import ConversationError
from unit.template_cases import (
    BYE,
    CASES,
    HELLO,
    HI,
    SEE_YOU,
    TEMPLATES,
    THREE,
    TOKENIZER,
    called,
    changed,
    chat_template,
    learned,
    refusal,
    shares,
    talk,
    tokenizer_with,
)  # fmt: skip


@pytest.mark.parametrize("content, shown", [
    ("turn.content | upper", "HELLO."),
    ("turn.content[:3]", "Hel"),
    ("turn.content[:-3] ~ turn.content[-1:]", "Hel."),
    ("turn.content[-2:]", "o."),
    ("turn.content if turn.content | length < 4", ""),
    ("turn.content ~ ' Really.'", "Hello. Really."),
    ("turn.content ~ '\\n' ~ turn.content", "Hello.\\nHello."),
])  # fmt: skip
def test_an_answer_that_is_changed_is_refused(content: str, shown: str) -> None:
    template = chat_template(changed(content))
    wanted = f"message 1: the template renders '{shown}' where the answer 'Hello.' should be"
    assert refusal(template, CASES["single"]) == wanted
    assert refusal(template, talk(HI, HELLO, BYE)) == wanted
    tagged = TEMPLATES["tags_without_end"].replace("turn.content", f"({content})")
    assert refusal(chat_template(tagged), CASES["single"]) == wanted


def test_what_stands_before_every_answer_is_learned_with_it() -> None:
    template = chat_template(changed("'final: ' ~ turn.content if turn.role == 'assistant' else turn.content"))
    assert learned(template, CASES["multi"]) == ["final: Hello.<|im_end|>", "final: See you.<|im_end|>"]


def test_earlier_answers_that_end_otherwise_are_refused() -> None:
    source = "{% for t in messages %}[{{ t.content }}{{ '</s>' if loop.last and t.role == 'assistant' else '<s>' }}"
    source += "{% endfor %}{% if add_generation_prompt %}[{% endif %}"
    template, last = chat_template(source), chat_template(source, learn="last")
    assert refusal(template, CASES["multi"]) == (
        "message 1: the template renders 'Hello.<s>[Bye<s>[See you.' where the answer 'Hello.' should be"
    )
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
    ("call.function.name ~ call.function.arguments", "message 1: the template writes arguments as Python, not as JSON"),
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


def test_templates_that_cannot_be_used() -> None:
    def reason(source: str | None, tokenizer: Any = TOKENIZER) -> str:
        with pytest.raises(ConversationError) as caught:
            chat_template(source, tokenizer)
        return str(caught.value)

    several = tokenizer_with()
    several.chat_template = {"default": TEMPLATES["chatml"], "tool_use": TEMPLATES["chatml"]}
    use = "set data.chat_template to the one to use"
    assert reason(None) == f"the tokenizer has no chat template; {use}"
    assert reason(None, several) == f"the tokenizer has several chat templates (default, tool_use); {use}"
    assert reason("{{ nothing.at.all }}") == "the chat template does not take it: 'nothing' is undefined"
    assert reason("{% for %}").startswith("the chat template does not take it: ")
    assert reason("{{ messages[0].content }}") == "the chat template does not render what the assistant says"
    assert reason("\U000f0000").startswith("the chat template has characters for private use")
    assert reason(TEMPLATES["chatml"].replace("<|im_end|>", "<end>")).startswith(
        "the chat template ends the assistant's turn with no special token, so a model would never stop; let it write "
        "eos_token there, or make what it writes a special token with tokenizer.add_tokens"
    )


def test_generation_tags_that_are_wrong_are_refused() -> None:
    def reason(source: str) -> str:
        assert source not in TEMPLATES.values()
        return refusal(chat_template(source), CASES["single"])

    source = TEMPLATES["tags_without_end"]
    assert reason(source.replace("turn.role == 'assistant'", "true")) == (
        "the template marks 2 passages as generated, and the assistant has 1 messages"
    )
    header = "{{- '<|im_start|>' ~ turn.role ~ '\\n' }}"
    assert header in source
    outside = source.replace(header, "").replace("generation %}{{- turn", f"generation %}}{header}{{{{- turn")
    assert reason(outside).startswith("message 1: at inference the prompt goes on with ")
    short = source.replace("{{- turn.content }}{% endgen", "{{- turn.content[:2] }}{% endgen")
    short = short.replace("{% endgeneration %}", "{% endgeneration %}{{- turn.content[2:] }}")
    assert reason(short) == "message 1: the template's generation tags end elsewhere than its turn"
    long = source.replace("{% endgeneration %}", "").replace("{{- '<|im_end|>\\n' }}", "{{- '<|im_end|>\\nx' }}")
    long = long.replace("{%- else %}", "{{- '<|im_end|>x' }}{% endgeneration %}{%- else %}")
    assert reason(long) == "message 1: the template's generation tags end elsewhere than its turn"


def test_a_template_may_tell_the_date() -> None:
    dated = "{{- strftime_now('%Y') ~ '\\n' }}" + TEMPLATES["chatml"]
    assert learned(chat_template(dated), CASES["multi"]) == ["Hello.<|im_end|>", "See you.<|im_end|>"]
