"""What a template writes around answers, for templates of many manners."""

from collections.abc import Sequence
from typing import Any

import pytest

from trainyard.data.conversations.markup import Markup
from unit.manners import MANNERS, TOOLS, tokenizer_of
from unit.template_cases import assistant, chat_template, refusal, talk, user

SYSTEM = {"role": "system", "content": "s"}
DEFAULT = "<|im_start|>system\nYou are helpful.<|im_end|>\n"


def markup(name: str, head: Sequence[Any] = (), tools: list[Any] | None = None) -> Markup:
    template = chat_template(MANNERS[name], tokenizer_of(name))
    return template._markup_of([*head, user("q")], tools)


@pytest.mark.parametrize(("name", "tail", "closing", "closing_call", "question", "header", "ends"), [
    ("hermes", "<|im_end|>", "", "", "<|im_start|>user\n", "<|begin_of_text|>", ["<|im_end|>"]),
    ("qwen25", "<|im_end|>", "", "", "<|im_start|>user\n", DEFAULT, ["<|im_end|>"]),
    ("three_marks", "</r></t></m>", "", "", "<u>user: ", "", ["</m>"]),
    ("glm4", "<|user|>", "<|user|>", "<|observation|>", "<|user|>\n", "[gMASK]<sop>", ["<|observation|>", "<|user|>"]),
    ("unclosed_last", "<|im_end|>", "<|im_end|>", "<|im_end|>", "<|im_start|>user\n", "", ["<|im_end|>"]),
    ("end_of_text_last", "<|im_end|>", "", "", "<|im_start|>user\n", "", ["<|im_end|>"]),
    ("phi4_mini", "<|end|>", "", "", "<|user|>", "", ["<|end|>"]),
    ("llama2", " </s>", "", "", "<s>[INST] ", "", ["</s>"]),
    ("ernie", "\n</response>\n<|im_end|>", "", "", "<|im_start|>user\n", "", ["<|im_end|>"]),
])  # fmt: skip
def test_what_closes_and_opens_turns(
    name: str, tail: str, closing: str, closing_call: str, question: str, header: str, ends: list[str]
) -> None:
    found = markup(name)
    assert (found.tail, found.closing, found.closing_call) == (tail, closing, closing_call)
    assert (found.question, found.header) == (question, header)
    assert sorted(found.ends) == ends


def test_a_token_that_stands_within_answers_is_no_stop_token() -> None:
    """gpt-oss closes the reasoning, and earlier answers, with the same token."""
    found = markup("gpt_oss")
    assert found.tail == "<|end|>"
    assert sorted(found.ends) == ["<|call|>", "<|return|>"]
    assert chat_template(MANNERS["gpt_oss"], tokenizer_of("gpt_oss")).ends == found.ends


def test_what_stands_before_an_answer_depends_on_the_tools_of_the_row() -> None:
    assert markup("needs_system", [SYSTEM]).between == {""}
    assert markup("needs_system", [SYSTEM], TOOLS).between == {"", "Sure."}
    assert markup("tags_header").between == {"", "<think>\n\n</think>"}


@pytest.mark.parametrize("source", [
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "{% for m in messages %}<|im_start|>{{ m.content }}<end>\n{% endfor %}",
])  # fmt: skip
def test_a_turn_that_text_alone_closes_is_refused(source: str) -> None:
    with pytest.raises(Exception, match=r"^the chat template ends the assistant's turn with no special token"):
        chat_template(source)


def test_a_template_that_takes_no_second_question() -> None:
    once = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
    once += "{% if messages | length > 2 %}{{ raise_exception('one question') }}{% endif %}"
    template = chat_template(once)
    assert template.ends == {"</s>"}
    assert refusal(template, talk(*[user("q"), assistant("a")] * 2)).endswith("one question")
