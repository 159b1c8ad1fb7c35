"""Where exchanges begin in a rendered conversation, in characters."""

from typing import Any

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.exchanges import exchange_starts
from trainyard.data.conversations.markup import Markup
from trainyard.data.conversations.rendering import Renderer, Rendering
from trainyard.data.conversations.spelling import any_of
from trainyard.data.tokenization.encoded import CutPoints
from unit.template_cases import ADD, BYE, HELLO, HI, SEE_YOU, SYSTEM

SOURCE = (
    "{% if tools %}[tools]{% endif %}"
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}"
    "{% if m.role == 'assistant' %}</s>{% endif %}{{ '\n' }}{% endfor %}"
)


def rendered(
    messages: list[Message], source: str = SOURCE, tools: list[Any] | None = None, opened: bool = False
) -> Rendering:
    special = any_of({"<s>", "<u>", "<a>", "</s>"})
    markup = Markup(special, "</s>", "<a>", question="<u>" if opened else "", header="")
    return Rendering(Renderer(source, {}), markup, messages, tools)


def starts(whole: Rendering, ends: dict[int, int] | None = None) -> tuple[str | None, list[str]]:
    """The rendered text from each cut point on, up to the end of its line."""
    first, later = exchange_starts(whole, ends or {})
    lines = [whole.text[point:].partition("\n")[0] for point in later]
    return (None if first is None else whole.text[first:].partition("\n")[0]), lines


def test_a_single_exchange_begins_behind_the_lead() -> None:
    behind = len("<s>Be brief.\n")
    for opened in (False, True):
        assert exchange_starts(rendered([HI, HELLO], opened=opened), {}) == CutPoints(0)
        assert exchange_starts(rendered([SYSTEM, HI, HELLO, SEE_YOU], opened=opened), {}) == CutPoints(behind)


def test_exchanges_begin_behind_the_lead_and_with_each_question_behind_an_answer() -> None:
    assert starts(rendered([HI, HELLO, BYE, SEE_YOU])) == ("<u>Hi", ["<u>Bye"])
    whole = rendered([SYSTEM, HI, HI, HELLO, BYE, SEE_YOU, HI, HELLO])
    assert starts(whole) == ("<u>Hi", ["<u>Bye", "<u>Hi"])
    assert exchange_starts(whole, {}).first == len("<s>Be brief.\n")


def test_the_end_of_an_answer_that_was_found_saves_a_rendering() -> None:
    whole = rendered([HI, HELLO, BYE, SEE_YOU])
    end = whole.text.index("</s>") + len("</s>")
    assert starts(whole, {1: end}) == ("<u>Hi", ["<u>Bye"])
    assert exchange_starts(whole, {1: end}) == CutPoints(0, (end + 1,))  # behind the line break, before <u>


def test_what_the_template_writes_first_is_a_lead() -> None:
    """A begin-of-text token and a system prompt of the template's own, with and without one of the conversation."""
    source = "<s>{% if messages[0].role != 'system' %}<s>Default.\n{% endif %}" + SOURCE
    for messages in ([HI, HELLO, BYE, SEE_YOU], [SYSTEM, HI, HELLO, BYE, SEE_YOU], [HI, HELLO]):
        whole = rendered(messages, source, ADD, opened=True)
        first = exchange_starts(whole, {}).first
        assert first is not None and whole.text[first:].startswith("<u>Hi\n<a>Hello.</s>\n")
        assert first > len("<s>")


def test_an_exchange_begins_with_the_token_that_closes_the_answer_before_it() -> None:
    whole = rendered([HI, HELLO, BYE, SEE_YOU], SOURCE.replace("</s>", ""), opened=True)
    end = whole.text.index("<u>Bye") + len("<u>")
    assert starts(whole, {1: end}) == ("<u>Hi", ["<u>Bye"])


def test_tools_are_a_lead_whose_end_is_unknown() -> None:
    assert starts(rendered([HI, HELLO, BYE, SEE_YOU], tools=ADD)) == (None, ["<u>Bye"])
    assert starts(rendered([SYSTEM, HI, HELLO, BYE, SEE_YOU], tools=ADD)) == ("<u>Hi", ["<u>Bye"])


def test_an_exchange_that_the_template_begins_otherwise_is_left_out() -> None:
    last = "{{ ' (last)' if loop.last else '' }}"
    whole = rendered([SYSTEM, HI, HELLO, BYE, SEE_YOU], SOURCE.replace("{{ m.content }}", "{{ m.content }}" + last))
    assert starts(whole) == (None, [])
    alone = "{% if messages | length == 1 %}{{ raise_exception('no question') }}{% endif %}"
    assert starts(rendered([SYSTEM, HI, HELLO, BYE, SEE_YOU], SOURCE + alone)) == (None, ["<u>Bye"])
