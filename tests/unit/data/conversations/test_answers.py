"""Where answers are in a rendered conversation, also where a template rewrites history."""

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
    assistant,
    called,
    chat_template,
    learned,
    refusal,
    shares,
    talk,
    thinking,
    user,
)  # fmt: skip


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


def test_an_opening_of_the_assistant() -> None:
    for name in ("chatml", "tags_with_end"):
        template = chat_template(name)
        assert refusal(template, talk(HELLO, HI, SEE_YOU, flags={0: True})) == (
            "message 0 is the assistant's: no prompt leads to it at inference; do not learn it"
        )
        assert learned(template, talk(HELLO, HI, SEE_YOU)) == ["See you.<|im_end|>"]


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


def test_a_usual_opening_of_answers_spares_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives what the prompt of each answer gives."""
    long = talk(*[HI, HELLO, HI, HELLO, BYE, SEE_YOU] * 5, flags={0: True, 7: False})
    rendered = []
    render = Renderer.__call__
    monkeypatch.setattr(Renderer, "__call__", lambda *given, **how: rendered.append(1) or render(*given, **how))
    counts = {}
    for name in ("chatml", "headers", "renamed_model", "plain"):
        template = chat_template(name)
        template.fragments(talk(HI, HELLO))  # what the template writes around answers is seen once
        rendered.clear()
        fragments = template.fragments(long)
        counts[name] = len(rendered)
        template._markups = {key: markup._replace(opening="") for key, markup in template._markups.items()}
        assert template.fragments(long) == fragments
    assert counts == {"chatml": 3, "headers": 3, "renamed_model": 3, "plain": 16}
