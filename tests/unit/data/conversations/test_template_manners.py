"""Templates in the manners of real models, each on two dozen conversations: ids and masks, or a reason.

The ids are those of apply_chat_template. What is learned is compared with marks that the templates carry; see
unit.manners.
"""

import itertools
from typing import Any

import pytest
import yaml
from conftest import ROOT
from jinja2.exceptions import TemplateError

from sft.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.conversations.conversation import Conversation
from trainyard.errors import ConversationError
from unit.manners import CONVERSATIONS, MANNERS, Reference, as_given, reference, tokenizer_of
from unit.template_cases import chat_template

REFUSED: dict[str, dict[str, list[str]]] = yaml.safe_load(
    (ROOT / "tests" / "data" / "manners" / "refused.yaml").read_text()
)
"""The reasons, each with conversations and the templates that give it."""

JINJA = "the chat template does not take it: "

UNLEARNED = {"assistant_first": 0}
"""An answer that is left out, by its place among the messages of the assistant."""


def refusal_of(name: str, case: str) -> str:
    """Why a conversation is refused; empty if it is taken."""
    reasons = [reason for reason, cases in REFUSED.items() if name in cases.get(case, [])]
    assert len(reasons) <= 1
    return "".join(reasons)


def test_the_grid_is_whole() -> None:
    assert len(MANNERS) >= 24
    assert len(CONVERSATIONS) >= 20
    named = [(name, case) for cases in REFUSED.values() for case, names in cases.items() for name in names]
    assert {name for name, _ in named} <= set(MANNERS)
    assert {case for _, case in named} <= set(CONVERSATIONS)
    taken = len(MANNERS) * len(CONVERSATIONS) - len(named)
    assert taken > 600


@pytest.mark.parametrize("name", MANNERS)
def test_ids_and_mask_of_every_conversation(name: str) -> None:
    tokenizer = tokenizer_of(name)
    template = chat_template(MANNERS[name], tokenizer)
    encode = Encoder(tokenizer, [], DataConfig(chat_template=MANNERS[name]), fast=False)
    for case, conversation in CONVERSATIONS.items():
        try:
            wanted = reference(name, conversation)
        except (TemplateError, TypeError):
            with pytest.raises(ConversationError, match=JINJA):
                template.render(conversation)
            continue
        refused = refusal_of(name, case)
        try:
            rendered = template.render(conversation)
        except ConversationError as error:
            assert refused, (case, str(error))
            assert refused in str(error), case
            continue
        assert not refused, case
        spans = [span for number, span in enumerate(wanted.learned) if number != UNLEARNED.get(case)]
        assert "".join(fragment.text for fragment in rendered.fragments) == wanted.text + wanted.closing, case
        mask = [fragment.is_learned for fragment in rendered.fragments for _ in fragment.text]
        assert mask == in_spans(spans, len(mask)), case
        check_ids(tokenizer, encode, conversation, wanted, case)


def in_spans(spans: list[tuple[int, int]], length: int) -> list[bool]:
    inside = [False] * length
    for begin, end in spans:
        inside[begin:end] = [True] * (end - begin)
    return inside


def check_ids(tokenizer: Any, encode: Encoder, conversation: Conversation, wanted: Reference, case: str) -> None:
    """The ids are apply_chat_template's, and the mask is what offsets in the text say; prompts end where answers begin.

    Where an answer begins with white space, its first token stands apart from the prompt, as at inference.
    """
    tokens = encode([conversation])
    assert tokens.refused == {}, case
    messages = [as_given(message) for message in conversation.messages]
    whole = tokenizer.apply_chat_template(messages, tools=conversation.tools)["input_ids"]
    closing = tokenizer(wanted.closing, add_special_tokens=False)["input_ids"] if wanted.closing else []
    begins = [0, *(begin for begin, _ in wanted.learned), len(wanted.text)]
    parts = [wanted.text[a:b] for a, b in itertools.pairwise(begins)]
    ids = [token for part in parts for token in tokenizer(part, add_special_tokens=False)["input_ids"]]
    assert tokens.ids.tolist() == ids + closing, case
    if not any(part[:1].isspace() for part in parts[1:]):
        assert ids == whole, case
