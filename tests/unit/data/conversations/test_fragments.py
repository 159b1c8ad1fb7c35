"""Rendered texts cut into fragments, and the white space that special tokens swallow."""

import re

from tokenizers import AddedToken

from trainyard.data.conversations.fragments import Cutter, Fragment, Rendered
from trainyard.data.tokenization.encoded import CutPoints
from unit.template_cases import (
    HELLO,
    HI,
    TEMPLATES,
    assistant,
    chat_template,
    encoded,
    shares,
    talk,
    tokenizer_with,
    user,
)  # fmt: skip

SPECIAL = re.compile("<a>|<b>|</s>")


def control(token: str, learned: bool = False) -> Fragment:
    return Fragment(token, True, learned)


def text(words: str, learned: bool = False) -> Fragment:
    return Fragment(words, False, learned)


def test_a_text_is_cut_at_special_tokens_where_learning_begins_and_where_exchanges_begin() -> None:
    cutter = Cutter(SPECIAL, set(), set())
    rendered = "Be brief. <a>Hi<b> Hello.</s>\n<a>Bye<b> See you.</s>\n"
    learned = [(begin, rendered.index("</s>", begin) + 4) for begin in (18, rendered.index(" See"))]
    assert [rendered[begin:end] for begin, end in learned] == [" Hello.</s>", " See you.</s>"]
    assert cutter.cut(rendered, learned, CutPoints(10, [30]), {}) == Rendered(
        [
            text("Be brief. "), control("<a>"), text("Hi"), control("<b>"), text(" Hello.", True),
            control("</s>", True), text("\n"), control("<a>"), text("Bye"), control("<b>"), text(" See you.", True),
            control("</s>", True), text("\n"),
        ],
        CutPoints(1, [7]),
    )  # fmt: skip


def test_text_is_cut_within_words_where_learning_or_an_exchange_begins() -> None:
    assert Cutter(re.compile("(?!)"), set(), set()).cut("abcdef", [(1, 3)], CutPoints(None, [4]), {}) == Rendered(
        [text("a"), text("bc", True), text("d"), text("ef")], CutPoints(None, [3])
    )


def test_placeholders_become_the_tokens_that_they_stand_for_as_text() -> None:
    spelled = {"<a>": "\U000f0000", "</s>": "\U000f0001"}
    assert Cutter(SPECIAL, set(), set()).cut("<a>\U000f0000 and \U000f0001</s>", [], CutPoints(0), spelled) == Rendered(
        [control("<a>"), text("<a> and </s>"), control("</s>")], CutPoints(0, []), spells=True
    )


def test_white_space_beside_tokens_that_swallow_it_is_left_out() -> None:
    cutter = Cutter(SPECIAL, swallow_before={"<b>"}, swallow_behind={"<a>"})
    assert cutter.cut(" x <a> \n <b> y <a> z", [(18, 20)], CutPoints(), {}).fragments == [
        text(" x "), control("<a>"), control("<b>"), text(" y "), control("<a>"), text(" z", True),
    ]  # fmt: skip


def test_white_space_that_special_tokens_swallow() -> None:
    swallowing = [AddedToken("<start_of_turn>"), AddedToken("<end_of_turn>", lstrip=True, rstrip=True)]
    tokenizer = tokenizer_with("<s>", "</s>", *swallowing)
    conversation = talk(user("Hi \n"), assistant(" Hello "), HI, HELLO)
    source = TEMPLATES["renamed_model"].replace(" | trim", "")
    fragments = chat_template(source, tokenizer).fragments(conversation)
    assert shares(fragments) == [
        "<s><start_of_turn>user\nHi<end_of_turn><start_of_turn>model\n",
        " Hello<end_of_turn>",
        "<start_of_turn>user\nHi<end_of_turn><start_of_turn>model\n",
        "Hello.<end_of_turn>",
    ]
    whole = tokenizer.apply_chat_template(conversation.messages, chat_template=source)["input_ids"]
    assert encoded(source, conversation, tokenizer).ids.tolist() == whole


def test_white_space_at_the_start_of_an_answer_is_the_answers() -> None:
    tokenizer = tokenizer_with("<s>", "</s>", AddedToken("<start_of_turn>", rstrip=True))
    source = "{% for turn in messages %}<start_of_turn>{{ turn.content }}</s>{% endfor %}"
    source += "{% if add_generation_prompt %}<start_of_turn>{% endif %}"
    fragments = chat_template(source, tokenizer).fragments(talk(user(" Hi"), assistant(" Hello.")))
    assert shares(fragments) == ["<start_of_turn>Hi</s><start_of_turn>", " Hello.</s>"]
