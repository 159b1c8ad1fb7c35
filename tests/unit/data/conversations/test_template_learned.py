"""The turns that are learned, by setting and by flag, also where a template rewrites history."""

from typing import Any

import pytest

from trainyard.data.conversations.rendering import Renderer
from unit.template_cases import (
    BYE,
    CASES,
    HELLO,
    HI,
    LONG,
    SEE_YOU,
    SYSTEM,
    TEMPLATES,
    THREE,
    TOKENIZER,
    assistant,
    called,
    changed,
    chat_template,
    learned,
    refusal,
    shares,
    talk,
    thinking,
    user,
)  # fmt: skip


def test_the_last_answer_alone() -> None:
    template = chat_template("chatml", learn="last")
    assert learned(template, LONG) == ["See you.<|im_end|>"]
    assert learned(template, talk(HI, HELLO, BYE)) == ["Hello.<|im_end|>"]


def test_every_token() -> None:
    template = chat_template("chatml", learn_prompt=True)
    for conversation in (LONG, talk(*LONG.messages, flags=dict.fromkeys(range(5), False))):
        whole = TOKENIZER.apply_chat_template(conversation.messages, chat_template=TEMPLATES["chatml"], tokenize=False)
        assert shares(template.fragments(conversation)) == ["", whole]
    cut = chat_template(changed("turn.content[:3]"), learn_prompt=True)
    assert refusal(cut, CASES["single"]) == "message 1: the template renders 'Hel' where the answer 'Hello.' should be"


def test_flags_of_messages() -> None:
    template = chat_template("chatml")
    last = chat_template("chatml", learn="last")
    assert learned(template, talk(*LONG.messages, flags={2: False})) == ["See you.<|im_end|>"]
    assert learned(template, talk(*LONG.messages, flags={4: False})) == ["Hello.<|im_end|>"]
    assert learned(template, talk(*LONG.messages, flags={1: True, 2: False, 3: False})) == [
        "Hi<|im_end|>",
        "See you.<|im_end|>",
    ]
    assert learned(last, talk(*LONG.messages, flags={0: True, 2: True})) == [
        "Be brief.<|im_end|>",
        "Hello.<|im_end|>",
        "See you.<|im_end|>",
    ]
    assert learned(template, talk(*LONG.messages, flags={2: False, 3: True, 4: False})) == ["Bye<|im_end|>"]


def test_a_question_by_its_flag_where_it_is_not_rendered_by_itself() -> None:
    for name, wanted in {
        "chatml_default_system": ["Hi<|im_end|>", "Hello.<|im_end|>"],
        "inst_no_system": ["Hi", " Hello.</s>"],
        "renamed_model": ["Hi<end_of_turn>", "Hello.<end_of_turn>"],
        "plain": ["Hi", "Hello.</s>"],
    }.items():
        conversation = talk(user(" Hi"), HELLO, flags={0: True})
        assert learned(chat_template(name), conversation) == wanted, name
    template = chat_template("inst_system_last")
    assert refusal(template, talk(*LONG.messages, flags={0: True})) == (
        "message 0 is to be learned, and the template does not render it by itself; leave out its flag"
    )


def test_nothing_learned_is_refused() -> None:
    nothing = "nothing of it is learned: every message of the assistant is left out"
    for learn in ("all", "last"):
        template = chat_template("chatml", learn=learn)
        assert refusal(template, talk(HI, HELLO, flags={1: False})) == nothing
        assert refusal(template, talk(HI)) == nothing


def test_an_opening_of_the_assistant() -> None:
    for name in ("chatml", "tags_with_end"):
        template = chat_template(name)
        assert refusal(template, talk(HELLO, HI, SEE_YOU)) == (
            "message 0 is the assistant's: no prompt leads to it at inference; do not learn it"
        )
        assert learned(template, talk(HELLO, HI, SEE_YOU, flags={0: False})) == ["See you.<|im_end|>"]


def test_answers_in_a_row() -> None:
    for name in ("chatml", "tags_without_end", "renamed_model"):
        template = chat_template(name)
        end = template.end
        assert learned(template, talk(HI, HELLO, SEE_YOU)) == [f"Hello.{end}", f"See you.{end}"]
    template = chat_template("inst_no_system")
    assert refusal(template, talk(HI, HELLO, SEE_YOU)).endswith("User and assistant must take turns")


# ---- reasoning and history ----


@pytest.mark.parametrize("think", [thinking, lambda text, thought: assistant(f"<think>{thought}</think>{text}")])
def test_reasoning_of_earlier_turns_is_dropped(think: Any) -> None:
    template = chat_template("chatml_drops_reasoning")
    conversation = talk(HI, think("Hello.", "Greet."), BYE, think("See you.", "Part."))
    assert shares(template.fragments(conversation)) == [
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "Hello.<|im_end|>",
        "\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        "<think>\nPart.\n</think>\n\nSee you.<|im_end|>",
        "\n",
    ]
    assert refusal(template, talk(HI, think("Hello.", "Greet."), BYE)) == (
        "message 1: the template leaves out the reasoning of the last answer"
    )


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


def test_a_prompt_that_opens_a_block_of_reasoning() -> None:
    source = TEMPLATES["chatml_empty_reasoning"]
    short, thought = chat_template(source), talk(HI, thinking("Hello.", "Greet."))
    assert "set data.template_variables so that they agree" in refusal(short, thought)
    free = chat_template(source, variables={"enable_thinking": True})
    assert learned(free, thought) == ["<think>\nGreet.\n</think>\n\nHello.<|im_end|>"]
    assert learned(free, CASES["multi"]) == ["Hello.<|im_end|>", "<think>\n\n</think>\n\nSee you.<|im_end|>"]
    last = chat_template(source, learn="last")
    assert learned(last, CASES["multi"]) == ["See you.<|im_end|>"]
    half = source.replace("<think>\\n\\n</think>\\n\\n' }}{% endif", "<think>\\n' }}{% endif")
    assert half != source
    assert learned(chat_template(half), thought) == ["Greet.\n</think>\n\nHello.<|im_end|>"]
    assert learned(chat_template(half), talk(HI, HELLO)) == ["\n</think>\n\nHello.<|im_end|>"]


def test_calls_and_reasoning_before_the_last_question() -> None:
    template = chat_template("tools_drop_reasoning")
    conversation = talk(
        user("1+2?"),
        called("add", a=1) | {"reasoning_content": "Add."},
        THREE,
        thinking("It is 3.", "Done."),
        user("2+2?"),
        called("add", a=2) | {"reasoning_content": "Again."},
        {"role": "tool", "content": "4"},
        thinking("It is 4.", "Done too."),
    )
    assert shares(template.fragments(conversation)) == [
        "<|im_start|>user\n1+2?<|im_end|>\n<|im_start|>assistant\n",
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>',
        "\n<|im_start|>tool\n3<|im_end|>\n<|im_start|>assistant\n",
        "It is 3.<|im_end|>",
        "\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
        '<think>\nAgain.\n</think>\n\n<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call><|im_end|>',
        "\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n",
        "<think>\nDone too.\n</think>\n\nIt is 4.<|im_end|>",
        "\n",
    ]


def test_an_empty_result_before_an_answer_in_history() -> None:
    template = chat_template("tools_drop_reasoning")
    call = called("add", a=1) | {"reasoning_content": "Add."}
    conversation = talk(HI, call, {"role": "tool", "content": ""}, HELLO, BYE, SEE_YOU)
    assert learned(template, conversation) == [
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>',
        "Hello.<|im_end|>",
        "See you.<|im_end|>",
    ]


def test_a_system_message_that_moves_to_the_last_question() -> None:
    template = chat_template("inst_system_last")
    assert shares(template.fragments(LONG)) == [
        "<s>[INST] Hi[/INST]",
        " Hello.</s>",
        "[INST] Be brief.\n\nBye[/INST]",
        " See you.</s>",
    ]
    same = talk(SYSTEM, HI, HELLO, HI, HELLO, HI, HELLO)
    assert learned(template, same) == [" Hello.</s>"] * 3
    assert shares(template.fragments(talk(*same.messages, flags={2: False, 4: False})))[-1:] == [" Hello.</s>"]
    assert "message 4: at inference the prompt goes on with" in refusal(
        template, talk(*same.messages, flags={2: False})
    )
    assert refusal(template, talk(SYSTEM, HI, HELLO, BYE)).startswith(
        "message 2: at inference the prompt goes on with 'Be brief.\\n\\nHi[/INST]', where the conversation has 'Hi[/I"
    )


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


def test_a_usual_opening_of_answers_spares_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives what the prompt of each answer gives."""
    long = talk(*[HI, HELLO, HI, HELLO, BYE, SEE_YOU] * 5, flags={0: True, 7: False})
    rendered = []
    render = Renderer.__call__
    monkeypatch.setattr(Renderer, "__call__", lambda *given, **how: rendered.append(1) or render(*given, **how))
    counts = {}
    for name in ("chatml", "headers", "renamed_model", "plain"):
        template = chat_template(name)
        rendered.clear()
        fragments = template.fragments(long)
        counts[name] = len(rendered)
        template._markup = template._markup._replace(opening="")
        assert template.fragments(long) == fragments
    assert counts == {"chatml": 4, "headers": 4, "renamed_model": 4, "plain": 17}
