"""Rendered conversations to ids: where text is cut, and where exchanges begin."""

import functools

import pytest
from conftest import ROOT
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import AddedToken

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.conversations.encode import ConversationEncoder, cut_at_answers
from trainyard.data.conversations.fragments import Fragment, Rendered
from trainyard.data.conversations.template import ChatTemplate
from trainyard.data.tokenization.encoded import CutPoints, Tokens
from trainyard.errors import DataError

PLAIN = (ROOT / "trainyard" / "data" / "conversations" / "templates" / "plain.jinja").read_text()

built = functools.cache(small_tokenizer)


def text(words: str, learned: bool = False) -> Fragment:
    return Fragment(words, False, learned)


END = Fragment("</s>", True, True)


def encode(kind: str, fragments: list[Fragment], *cut_points: int) -> Tokens:
    return ConversationEncoder(built(kind))([Rendered(fragments, CutPoints(cut_points[0], cut_points[1:]))])


def ids_of(kind: str, words: str) -> list[int]:
    return list(built(kind)(words, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_exchange_that_begins_in_text_leaves_the_text_whole(kind: str) -> None:
    """As "Be brief." and "Human: " at inference, where a byte-level tokenizer makes two tokens of what is between."""
    fragments = [text("Be brief.\n\n"), text("Human: Hi [/INST]"), text(" Hello.", True), END]
    tokens = encode(kind, fragments, 1)
    whole = ids_of(kind, "Be brief.\n\nHuman: Hi [/INST] Hello.</s>")
    assert tokens.ids.tolist() == whole
    assert tokens.loss_mask is not None
    assert sum(tokens.loss_mask) == len(whole) - len(ids_of(kind, "Be brief.\n\nHuman: Hi [/INST]"))
    ((cut, later),) = tokens.cut_points
    assert cut is not None
    assert later == []
    behind = built(kind).decode(whole[cut:]).lstrip()
    assert behind.startswith("Human:" if kind != "unigram" else "Human")
    if kind == "byte_level":
        assert ids_of(kind, "Be brief.\n\n") + ids_of(kind, "Human: Hi") != ids_of(kind, "Be brief.\n\nHuman: Hi")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exchange_that_begins_within_a_token_begins_nowhere(kind: str) -> None:
    whole = ids_of(kind, "x the yard")
    assert any("the" in token for token in built(kind).convert_ids_to_tokens(whole))
    fragments = [text("x t"), text("he yard"), END, text("x t"), text("he yard"), END]
    tokens = encode(kind, fragments, 1, 3, 4)
    assert tokens.ids.tolist() == ids_of(kind, "x the yard</s>x the yard</s>")
    assert tokens.cut_points == [CutPoints(None, [len(whole) + 1])]


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_cut_where_learning_begins(kind: str) -> None:
    fragments = [text("the ya"), text("rd trains", True), END]
    tokens = encode(kind, fragments, 0)
    prompt = ids_of(kind, "the ya")
    assert tokens.ids[: len(prompt)].tolist() == prompt
    assert tokens.loss_mask is not None
    assert tokens.loss_mask.tolist() == [0] * len(prompt) + [1] * (len(tokens.ids) - len(prompt))
    assert built(kind).decode(tokens.ids) == "the yard trains</s>"


def test_conversations_together_are_conversations_one_by_one() -> None:
    many = [
        Rendered([text("the yard\n\n"), text("trains "), text("x", True), END], CutPoints(1)),
        Rendered([Fragment("<s>", True, False), text("yard"), text("語", True), END], CutPoints(0)),
        Rendered([text("yard", True), END, text("\n\nyard"), text("yard", True), END], CutPoints(0, [2])),
    ]
    for kind in KINDS:
        encoder = ConversationEncoder(built(kind))
        together, alone = encoder(many), [encoder([found]) for found in many]
        assert [part.tolist() for part in together.documents()] == [tokens.ids.tolist() for tokens in alone]
        assert list(together.cut_points) == [tokens.cut_points[0] for tokens in alone]
        assert encoder([]).ids.tolist() == []


def test_a_mismatch_is_described() -> None:
    tokenizer = small_tokenizer("llama")
    tokenizer.add_tokens([AddedToken("<turn>", special=True, single_word=True)])
    found = Rendered([Fragment("<turn>", True, False), text("yard"), Fragment("</s>", True, False)])
    assert ConversationEncoder(tokenizer).mismatch([found]) == (
        "of '<turn>yard</s>' it makes ['▁', '<0x3C>', 't'] from token 0 on, and of the parts ['<turn>', 'y', 'ar']"
    )
    assert ConversationEncoder(tokenizer).mismatch([found._replace(fragments=found.fragments[1:])]) is None
    assert ConversationEncoder(tokenizer).mismatch([found._replace(spells=True)]) is None


def test_a_special_token_that_comes_of_text_is_an_error() -> None:
    tokenizer = small_tokenizer("llama")
    tokenizer.add_tokens([AddedToken("<end>", special=False)])
    tokenizer.eos_token = "<end>"
    with pytest.raises(DataError, match="the tokenizer makes '<end>' of text that spells it; leave that out"):
        ConversationEncoder(tokenizer)([Rendered([text("a <end>")], spells=True)])


# ---- cut_at_answers ----


def conversation(*said: str) -> Conversation:
    messages = [{"role": ("user", "assistant")[n % 2], "content": words} for n, words in enumerate(said)]
    return Conversation(messages, [None] * len(messages))


def shown(found: Rendered) -> list[str]:
    return [fragment.text for fragment in found.fragments]


def test_prompts_end_where_answers_begin_whatever_is_learned() -> None:
    tokenizer, talk = built("llama"), conversation("Hi", "Hello.", "Bye", "See you.")
    every = ChatTemplate(tokenizer, PLAIN)
    wanted = ["Human: Hi\n\nAssistant: ", "Hello.", "</s>", "\n\n"]
    wanted += ["Human: Bye\n\nAssistant: ", "See you.", "</s>", "\n\n"]
    for template in (ChatTemplate(tokenizer, PLAIN, learn="last"), ChatTemplate(tokenizer, PLAIN, learn_prompt=True)):
        rendered = template.render(talk)
        assert wanted[0] not in shown(rendered)
        assert shown(cut_at_answers(rendered, every, talk)) == wanted
    begun = every.prompt(talk.messages[:3])
    assert shown(cut_at_answers(begun, every, talk))[:3] == wanted[:3]
    assert "".join(shown(cut_at_answers(begun, every, talk))) == "".join(shown(begun))
