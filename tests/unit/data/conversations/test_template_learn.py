"""Which messages are learned: by data.learn, by data.learn_prompt and by the flags of the data."""

from unit.template_cases import (
    BYE,
    CASES,
    HELLO,
    HI,
    LONG,
    TEMPLATES,
    TOKENIZER,
    changed,
    chat_template,
    learned,
    refusal,
    shares,
    talk,
)  # fmt: skip


def test_every_token() -> None:
    template = chat_template("chatml", learn_prompt=True)
    for conversation in (LONG, talk(*LONG.messages, flags=dict.fromkeys(range(5), False))):
        whole = TOKENIZER.apply_chat_template(conversation.messages, chat_template=TEMPLATES["chatml"], tokenize=False)
        assert shares(template.fragments(conversation)) == ["", whole]
    cut = chat_template(changed("turn.content[:3]"), learn_prompt=True)
    assert refusal(cut, CASES["single"]) == "message 1: the template renders 'Hel' where the answer 'Hello.' should be"


def test_nothing_learned_is_refused() -> None:
    nothing = "nothing of it is learned: every message of the assistant is left out"
    for learn in ("all", "last"):
        template = chat_template("chatml", learn=learn)
        assert refusal(template, talk(HI, HELLO, flags={1: False})) == nothing
        assert refusal(template, talk(HI)) == nothing


def test_the_last_answer_alone() -> None:
    template = chat_template("chatml", learn="last")
    assert learned(template, LONG) == ["See you.<|im_end|>"]
    assert learned(template, talk(HI, HELLO, BYE)) == ["Hello.<|im_end|>"]


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
