"""Exact texts, ids and loss masks: a dozen templates on every kind of conversation, and some on any conversation."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.template_cases import (
    CASES,
    GOLDEN,
    HI,
    TEMPLATES,
    TOKENIZER,
    assistant,
    chat_template,
    encoded,
    learned,
    refusal,
    shares,
    talk,
    user,
)  # fmt: skip


def test_goldens_are_complete() -> None:
    assert len(TEMPLATES) == 13
    assert set(GOLDEN) == set(TEMPLATES)
    assert all(set(cases) == set(CASES) for cases in GOLDEN.values())
    parts = [part for cases in GOLDEN.values() for found in cases.values() if isinstance(found, list) for part in found]
    assert len(parts) == 275
    assert all(TOKENIZER.decode(ids) == text for text, ids in parts)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_golden(name: str, case: str) -> None:
    conversation, golden = CASES[case], GOLDEN[name][case]
    template, tokens = chat_template(name), encoded(name, conversation)
    if isinstance(golden, str):
        assert refusal(template, conversation) == golden
        assert tokens.refused == {0: golden}
        return
    texts = [text for text, _ in golden]
    fragments = template.fragments(conversation)
    assert shares(fragments) == texts
    assert tokens.ids.tolist() == [token for _, ids in golden for token in ids]
    assert tokens.loss_mask is not None
    assert tokens.loss_mask.tolist() == [number % 2 for number, (_, ids) in enumerate(golden) for _ in ids]
    messages, how = conversation.messages, {"chat_template": TEMPLATES[name], "tools": conversation.tools}
    assert "".join(texts) == TOKENIZER.apply_chat_template(messages, tokenize=False, **how)
    last = max(number for number, message in enumerate(messages) if message["role"] == "assistant")
    prompt = TOKENIZER.apply_chat_template(messages[:last], tokenize=False, add_generation_prompt=True, **how)
    assert "".join(texts[: 2 * sum(m["role"] == "assistant" for m in messages) - 1]) == prompt


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_has_the_ids_of_inference(name: str) -> None:
    tokens = encoded(name, CASES["single"])
    how: dict[str, Any] = {"chat_template": TEMPLATES[name], "add_generation_prompt": True}
    assert tokens.loss_mask is not None
    prompt = tokens.ids[: tokens.loss_mask.argmax()]
    assert prompt.tolist() == TOKENIZER.apply_chat_template([HI], **how)["input_ids"]


# ---- every conversation ----

TEXTS = st.text(st.sampled_from("ab .\n<|>é语🚂\U000f0000"), max_size=8) | st.sampled_from(
    ["<|im_end|>", "</s>", "[/INST]", "Assistant: ", "<|im_start|>assistant\n", "model", "Hi", "继续", "Human: "]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), st.none() | TEXTS)
def test_what_is_learned_is_what_the_assistant_says(exchanges: list[tuple[str, str]], system: str | None) -> None:
    messages = [message for asked, said in exchanges for message in (user(asked), assistant(said))]
    answers = [said for _, said in exchanges]
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    for name, end in {"chatml": "<|im_end|>", "tags_with_end": "<|im_end|>", "plain": "</s>"}.items():
        assert learned(chat_template(name), talk(*messages)) == [said + end for said in answers]
    for name, end in {"headers": "<|eot_id|>", "renamed_model": "<end_of_turn>"}.items():
        got = learned(chat_template(name), talk(*messages))
        assert got == [said.strip() + end for said in answers]
    if system is None:
        got = learned(chat_template("inst_no_system"), talk(*messages))
        assert got == [f" {said}</s>" for said in answers]
