"""A chat template at work: messages to text, the passages that it tags, and what it refuses."""

import re

import pytest

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.markup import Markup
from trainyard.data.conversations.rendering import Renderer, Rendering, spoken
from trainyard.errors import ConversationError
from unit.template_cases import (
    BYE,
    CASES,
    HELLO,
    HI,
    SEE_YOU,
    TEMPLATES,
    chat_template,
    learned,
)  # fmt: skip

PLAIN = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{{ eos }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
TAGGED = (
    "{% for m in messages %}<{{ m.role[0] }}>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}.{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}"
)
MARKUP = Markup(re.compile("<[ua]>|</s>"), "</s>", "<a>")
MESSAGES: list[Message] = [HI, HELLO, BYE, SEE_YOU]


def test_messages_are_rendered_with_the_values_and_the_generation_prompt() -> None:
    render = Renderer(PLAIN, {"eos": "</s>"})
    assert not render.has_tags
    assert render([HI, HELLO], None) == "<u>Hi</s>\n<a>Hello.</s>\n"
    assert render([HI], None, prompt=True) == "<u>Hi</s>\n<a>"
    assert Renderer("{{ tools | length }} {{ documents }}", {})([HI], [1, 2]) == "2 None"


def test_the_passages_inside_generation_tags_are_told() -> None:
    render = Renderer(TAGGED, {})
    assert render.has_tags
    blocks = [(0, 1)]
    text = render(MESSAGES, None, blocks=blocks)
    assert text == "<u>Hi<a>Hello..<u>Bye<a>See you.."
    assert [text[begin:end] for begin, end in blocks[1:]] == ["Hello..", "See you.."]


@pytest.mark.parametrize(("source", "reason"), [
    ("{{ nothing.at.all }}", "'nothing' is undefined"),
    ("{{ messages[7].content }}", "list object has no element 7"),
    ("{{ raise_exception('no roles') }}", "no roles"),
    ("{{ messages[0].content + 1 }}", 'can only concatenate str (not "int") to str'),
])  # fmt: skip
def test_what_a_template_does_not_take_is_an_error(source: str, reason: str) -> None:
    with pytest.raises(ConversationError) as caught:
        Renderer(source, {})([HI], None)
    assert str(caught.value) == f"the chat template does not take it: {reason}"


def test_one_conversation_and_its_beginnings() -> None:
    whole = Rendering(Renderer(PLAIN, {"eos": "</s>"}), MARKUP, MESSAGES, None)
    assert whole.text == "<u>Hi</s>\n<a>Hello.</s>\n<u>Bye</s>\n<a>See you.</s>\n"
    assert whole.answers == [1, 3]
    assert whole.prompt(3) == "<u>Hi</s>\n<a>Hello.</s>\n<u>Bye</s>\n<a>"
    assert [whole.text[begin:] for begin in whole.openings] == [
        "Hello.</s>\n<u>Bye</s>\n<a>See you.</s>\n",
        "See you.</s>\n",
    ]
    assert whole.of([BYE]) == "<u>Bye</s>\n"


def test_an_opening_that_occurs_elsewhere_too_is_not_used() -> None:
    whole = Rendering(Renderer(PLAIN, {"eos": ""}), MARKUP, [{"role": "user", "content": "<a>"}, HELLO], None)
    assert whole.openings == []


def test_contents_have_their_place_by_marks_around_them() -> None:
    spoken_to = [{"role": "user", "content": " Hi\n"}, {"role": "assistant", "content": ""}, BYE, SEE_YOU]
    whole = Rendering(Renderer(PLAIN, {"eos": "</s>"}), MARKUP, spoken_to, None)
    assert {number: whole.text[slice(*span)] for number, span in whole.contents.items()} == {
        0: "Hi",
        2: "Bye",
        3: "See you.",
    }
    assert whole.next_content(0, 0) == whole.contents[2][0]
    assert whole.next_content(3, whole.contents[2][1]) == len(whole.text)


@pytest.mark.parametrize("content", [
    "m.content | upper", "m.content ~ m.content", "m.content | length", "m.content[:2]", "m.content | reverse",
])  # fmt: skip
def test_contents_that_are_written_otherwise_have_no_place(content: str) -> None:
    source = PLAIN.replace("m.content", f"({content})")
    assert Rendering(Renderer(source, {"eos": ""}), MARKUP, MESSAGES, None).contents == {}


def test_a_content_is_what_follows_a_block_of_reasoning() -> None:
    assert spoken({"role": "assistant", "content": "<think>Greet.</think>\n Hello."}) == ("\n Hello.", "Hello.")
    assert spoken({"role": "assistant", "content": "</think>", "reasoning_content": ""}) == ("</think>", "</think>")
    assert spoken({"role": "user", "content": "a</think>b "}) == ("a</think>b ", "a</think>b")
    inline = {"role": "assistant", "content": "<think>Hi</think>Hi"}
    whole = Rendering(Renderer(PLAIN, {"eos": ""}), MARKUP, [HI, inline], None)
    assert whole.text[: whole.contents[1][0]].endswith("<think>Hi</think>")


def test_a_message_as_the_last() -> None:
    source = PLAIN.replace("{{ eos }}", "{{ '.' if loop.last and m.role == 'assistant' }}")
    whole = Rendering(Renderer(source, {}), MARKUP, MESSAGES, None)
    assert [whole.own(1), whole.own(3)] == ["Hello..\n", "See you..\n"]
    with pytest.raises(ConversationError, match=r"^message 2: the generation prompt does not lead to it$"):
        whole.own(2)


def test_a_last_answer_is_closed() -> None:
    whole = Rendering(Renderer(PLAIN, {"eos": ""}), MARKUP, MESSAGES, None)
    text = whole.text
    assert whole.close("</s>") == len(text) + 4 == len(whole.text)
    assert (whole.text, whole.closed) == (text + "</s>", "</s>")
    assert set(whole.contents) == {0, 1, 2, 3}


def test_a_prompt_that_differs_from_the_conversation_is_shown_where_it_does() -> None:
    source = PLAIN.replace("<a>{% endif", "<a>think{% endif")
    whole = Rendering(Renderer(source, {"eos": ""}), MARKUP, [HI, HELLO], None)
    assert str(whole.divergence(1)) == (
        "message 1: at inference the prompt goes on with 'think', where the conversation has 'Hello.\\n'; "
        "set data.template_variables so that they agree, learn only the last answer, or change the data"
    )


def test_a_template_may_tell_the_date() -> None:
    dated = "{{- strftime_now('%Y') ~ '\\n' }}" + TEMPLATES["chatml"]
    assert learned(chat_template(dated), CASES["multi"]) == ["Hello.<|im_end|>", "See you.<|im_end|>"]
