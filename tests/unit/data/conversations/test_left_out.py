"""What templates leave out without a word: noted with data.strict_template=false, refused with true."""

from typing import Any

import pytest

from sft.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.template import ChatTemplate
from unit.template_cases import (
    ADD,
    BYE,
    HELLO,
    HI,
    SEE_YOU,
    SYSTEM,
    TEMPLATES,
    THREE,
    TOKENIZER,
    assistant,
    called,
    chat_template,
    refusal,
    talk,
    user,
)

TURN = "'<|im_start|>' ~ turn.role ~ '\\n' ~ turn.content ~ '<|im_end|>\\n'"
LATER = {"role": "system", "content": "Now be long."}
DEVELOPER = {"role": "developer", "content": "Use metres."}
SUB = {"type": "function", "function": {"name": "sub"}}


def only(condition: str, head: str = "") -> str:
    """ChatML of the turns for which a condition holds."""
    assert TURN in TEMPLATES["chatml"]
    return head + TEMPLATES["chatml"].replace(
        f"{{{{- {TURN} }}}}", f"{{% if {condition} %}}{{{{- {TURN} }}}}{{% endif %}}"
    )


def noted(source: str, conversation: Conversation, **settings: Any) -> list[str]:
    """What is left out; a strict template refuses the same."""
    rendered = chat_template(source, strict=False, **settings).render(conversation)
    prefix, suffix = "the chat template leaves out ", " (data.strict_template=true refuses)"
    assert all(note.what.startswith(prefix) and note.what.endswith(suffix) for note in rendered.notes)
    found = [note.what.removeprefix(prefix).removesuffix(suffix) for note in rendered.notes]
    strict = chat_template(source, strict=True, **settings)
    if found:
        wanted = f"the chat template leaves out {' and '.join(found)}; use another, or set data.strict_template=false"
        assert refusal(strict, conversation) == wanted
    else:
        assert strict.render(conversation) == rendered
    plain = chat_template(source, **settings).render(conversation)
    assert plain == rendered._replace(notes=())
    return found


TOOLS = "{% if tools %}{{ '<|im_start|>system\\n' ~ (SHOWN | tojson) ~ '<|im_end|>\\n' }}{% endif %}"


@pytest.mark.parametrize(("shown", "wanted"), [
    ("tools", []),
    ("tools[:1]", ["the tools"]),
    ("tools | length", ["the tools"]),
    ("tools | map(attribute='function') | map(attribute='name') | list", []),
])  # fmt: skip
def test_tools(shown: str, wanted: list[str]) -> None:
    source = TOOLS.replace("SHOWN", shown) + TEMPLATES["chatml"]
    assert noted(source, talk(user("1+2, then sub?"), HELLO, tools=[*ADD, SUB])) == wanted
    assert noted(source, talk(HI, HELLO)) == []


def test_tools_whose_names_stand_in_the_conversation_by_chance() -> None:
    assert noted("chatml", talk(user("Please add 1 and 2."), assistant("I add: 3."), tools=ADD)) == ["the tools"]
    needed = "{% if not tools and messages | length > 3 %}{{ raise_exception('no tools') }}{% endif %}"
    assert noted(only("true", needed), talk(HI, HELLO, BYE, SEE_YOU, tools=ADD)) == []


@pytest.mark.parametrize(("condition", "messages", "wanted"), [
    ("turn.role != 'system'", [SYSTEM, HI, HELLO], ["the system message"]),
    ("turn.role != 'system' or loop.first", [SYSTEM, HI, HELLO], []),
    ("turn.role != 'system' or loop.first", [SYSTEM, HI, HELLO, LATER, BYE, SEE_YOU], ["a later system message"]),
    ("turn.role != 'developer'", [DEVELOPER, HI, HELLO], ["a developer message"]),
    ("turn.role != 'developer'", [SYSTEM, DEVELOPER, HI, HELLO], ["a developer message"]),
    ("turn.role not in ['developer', 'system']", [SYSTEM, DEVELOPER, HI, HELLO, LATER, BYE, SEE_YOU],
     ["the system message", "a developer message", "a later system message"]),
    ("turn.role != 'user' or loop.first or not loop.previtem or loop.previtem.role != 'user'", [HI, BYE, HELLO],
     ["a message of the user"]),
    ("true", [SYSTEM, DEVELOPER, HI, HELLO, LATER, BYE, SEE_YOU], []),
])  # fmt: skip
def test_messages(condition: str, messages: list[Message], wanted: list[str]) -> None:
    assert noted(only(condition), talk(*messages)) == wanted
    long = [message | {"content": f"{message['content']} At length, in many words."} for message in messages]
    assert noted(only(condition), talk(*long)) == wanted


def test_a_message_that_others_spell_is_still_missed() -> None:
    """Its content is a word of the template, or that of another message."""
    for content in ("user", "Hi", "assistant\nHello."):
        assert noted(only("turn.role != 'system'"), talk({"role": "system", "content": content}, HI, HELLO)) == [
            "the system message"
        ]
    same = "A sentence that both of them say."
    assert noted(only("turn.role != 'system'"), talk({"role": "system", "content": same}, user(same), HELLO)) == [
        "the system message"
    ]


def test_a_content_that_is_moved_or_escaped_is_not_left_out() -> None:
    assert noted("inst_system_last", talk(SYSTEM, HI, HELLO, BYE, SEE_YOU), learn="last") == []
    result = {"role": "tool", "content": 'A "long" result of a tool: é.\n'}
    for how in ("tojson", "tojson(ensure_ascii=true)", "trim"):
        source = TEMPLATES["tools_drop_reasoning"].replace("turn.content ~", f"(turn.content | {how}) ~")
        conversation = talk(HI, called("add", a=1), result, HELLO, tools=ADD)
        found = chat_template(source, learn="last", strict=False).render(conversation).notes
        assert not [note for note in found if "result of a tool" in note.what]


def test_what_is_not_learned_is_not_verified_and_yet_not_left_out() -> None:
    conversation = talk(HI, called("add", a=1), THREE, HELLO, BYE, SEE_YOU)
    for settings in ({"learn": "last"}, {"learn_prompt": True}):
        assert noted("chatml", conversation, **settings) == ["a call"]
        assert noted("tools_drop_reasoning", conversation, **settings) == []
    shorter = only("turn.role != 'assistant' or loop.last")
    assert noted(shorter, talk(HI, HELLO, BYE, SEE_YOU), learn="last") == ["an earlier answer"]


def test_notes_come_with_the_tokens_of_each_conversation() -> None:
    talks = [talk(HI, HELLO, tools=ADD), talk(HI, HELLO), talk(SYSTEM, HI, HELLO, tools=ADD)]
    data = DataConfig(sources=[], chat_template=TEMPLATES["chatml"])
    tokens = Encoder(TOKENIZER, talks, data, fast=False)(talks)
    note = "the chat template leaves out the tools (data.strict_template=true refuses)"
    assert [[what for what, _ in notes] for notes in tokens.notes] == [[note], [], [note]]
    data.strict_template = True
    refused = Encoder(TOKENIZER, talks, data, fast=False)(talks).refused
    assert set(refused) == {0, 2}


def test_without_a_wish_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.data.conversations.template.left_out", lambda *_: pytest.fail("looked"))
    assert ChatTemplate(TOKENIZER, TEMPLATES["chatml"]).render(talk(HI, HELLO)).notes == ()
