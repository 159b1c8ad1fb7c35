"""Generation tags beside what is learned: followed by rule, and said where they differ."""

import pytest

from trainyard.data.conversations.tags import difference
from unit.manners import CONVERSATIONS, MANNERS, tokenizer_of
from unit.template_cases import CASES, TEMPLATES, chat_template, shares

TEXT = "ask answer end ask answer end"


@pytest.mark.parametrize(("tagged", "said"), [
    ([(4, 14), (19, 29)], ""),
    ([(3, 14), (18, 28), (28, 29)], ""),  # white space, and two blocks for one answer
    ([(4, 10), (19, 29)], "they leave out 'end', which is learned"),
    ([(0, 14), (19, 29)], "they mark 'ask', which is not learned"),
    ([(0, 10), (19, 29)], "they leave out 'end', which is learned and mark 'ask', which is not learned"),
    ([], "they leave out 'answer end', which is learned"),
])  # fmt: skip
def test_what_tags_leave_out_and_what_they_mark_beside(tagged: list[tuple[int, int]], said: str) -> None:
    assert difference(TEXT, tagged, [(4, 14), (19, 29)]) == said


def test_tags_that_cannot_be_followed_change_nothing_that_is_learned() -> None:
    source = TEMPLATES["tags_without_end"]
    content = "{%- generation %}{{- turn.content }}{% endgeneration %}"
    assert content in source
    for wrong, said in {
        source.replace("turn.role == 'assistant'", "true"): (
            "they leave out '<|im_end|>', which is learned and mark 'Hi', which is not learned"
        ),
        source.replace(content, "{{- turn.content[:2] }}{%- generation %}{{- turn.content[2:] }}{% endgeneration %}"): (
            "they leave out 'He', which is learned"
        ),
        source.replace(
            content, content.replace("turn.content", "'' if loop.last else turn.content") + "{{- turn.content }}"
        ): ("they leave out 'Hello.<|im_end|>', which is learned"),
    }.items():
        rendered = chat_template(wrong).render(CASES["single"])
        assert shares(rendered.fragments) == shares(chat_template("chatml").fragments(CASES["single"]))
        (note,) = rendered.notes
        assert note.what.startswith("the template's generation tags are not followed")
        assert note.example == said


def test_several_blocks_in_an_answer_are_followed() -> None:
    for name in ("tags_blocks", "tags_calls"):
        for case in ("three_turns", "call_in_history", "parallel"):
            assert chat_template(MANNERS[name], tokenizer_of(name)).render(CONVERSATIONS[case]).notes == ()
