"""Text has the ids that the tokenizer gives it where it stands."""

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import pre_tokenizers
from transformers import LlamaTokenizer

from trainyard.data.tokenization.placed_encoder import PlacedEncoder

TEXTS = st.text(st.sampled_from("ab yard.:\n</s>é语🚂▁"), min_size=1, max_size=9) | st.sampled_from(
    [" yard", "Hello.", "\n\nyard", "</s>", "<|im_end|>\n", ":)", "中文 🚂"]
)

built = functools.cache(small_tokenizer)


@functools.cache
def placed(kind: str) -> PlacedEncoder:
    return PlacedEncoder(built(kind))


def ids(encoder: PlacedEncoder, text: str, before: str | None) -> list[int]:
    return [int(token) for token in encoder([text], [before]).ids]


def reference(tokenizer: Any, text: str, **how: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **how)["input_ids"])


@pytest.mark.parametrize(
    ("kind", "start", "behind_special", "behind_text"),
    [
        ("byte_level", "yard", "yard", "yard"),
        ("gemma", "yard", "yard", "yard"),
        ("llama", "▁yard", "yard", "yard"),
        ("llama_legacy", "▁yard", "▁yard", "yard"),
        ("prepend", "▁yard", "▁yard", "yard"),
        ("unigram", "▁yard", "▁yard", "yard"),
        ("t5", "▁yard", "▁yard", "yard"),
    ],
)
def test_a_word_by_its_place(kind: str, start: str, behind_special: str, behind_text: str) -> None:
    tokenizer, encoder = built(kind), placed(kind)
    before = "" if encoder.behind_special else None
    pieces = [ids(encoder, "yard", place) for place in (None, before, "[/INST]")]
    assert ["".join(tokenizer.convert_ids_to_tokens(some)) for some in pieces] == [start, behind_special, behind_text]
    assert reference(tokenizer, "yard") == pieces[0]
    assert reference(tokenizer, "</s>yard") == [tokenizer.eos_token_id, *pieces[1]]
    assert reference(tokenizer, "[/INST]yard") == [*reference(tokenizer, "[/INST]"), *pieces[2]]


@settings(max_examples=60, deadline=None)
@given(head=TEXTS, text=TEXTS)
def test_any_text_behind_any_other(head: str, text: str) -> None:
    """Wherever the tokenizer, given both, has the ids of the head alone at the start; plain where all text is text."""
    for kind in KINDS:
        tokenizer, encoder = built(kind), placed(kind)
        before, whole = (reference(tokenizer, some, split_special_tokens=True) for some in (head, head + text))
        if kind in ("unigram", "t5"):  # transformers finds special tokens in their texts
            before, whole = ids(encoder, head, None), ids(encoder, head + text, None)
        if whole[: len(before)] == before:
            assert ids(encoder, text, head) == whole[len(before) :], kind


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_that_are_spelled_stay_text(kind: str) -> None:
    tokenizer, encoder = built(kind), placed(kind)
    special = {n for n, token in tokenizer.added_tokens_decoder.items() if token.special} - {tokenizer.unk_token_id}
    assert len(special) >= 10
    for text in ("</s>", "a</s> b", "\n<|im_end|>\n", "<s>[INST]"):
        assert special & {*reference(tokenizer, text)}
        for before in (None, "", "x", "<"):
            assert not special & {*ids(encoder, text, before)}
        if kind not in ("unigram", "t5"):
            assert ids(encoder, text, None) == reference(tokenizer, text, split_special_tokens=True)


def test_unknown_characters_behind_a_special_token_are_not_lost() -> None:
    """One <unk> stands for all that follow one another, and so for the line break before them too."""
    tokenizer = small_tokenizer("unigram")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    encoder = PlacedEncoder(tokenizer)
    assert encoder.behind_special
    for text in ("鱻yard", "\n\n", "yard鱻", " 鱻"):
        ours = ids(encoder, text, "")
        assert reference(tokenizer, f"</s>{text}") == [tokenizer.eos_token_id, *ours]
        assert tokenizer.unk_token_id in ours


def test_a_text_that_shares_a_token_with_whatever_stands_before_it_starts() -> None:
    pieces = ["▁", "[", "q", "\n", ":", "a", "[q", "\nq", ":q", "aq", "▁q", "y", "r", "d"]
    vocab = {piece: number for number, piece in enumerate(["<unk>", "<s>", "</s>", *pieces])}
    tokenizer = LlamaTokenizer(vocab=vocab, merges=[(piece[0], piece[1]) for piece in pieces if len(piece) == 2])
    encoder = PlacedEncoder(tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids(encoder, "y", "[")) == ["y"]
    assert tokenizer.convert_ids_to_tokens(ids(encoder, "q", "[")) == ["▁q"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once_are_one_by_one(kind: str) -> None:
    encoder = placed(kind)
    pairs = [("yard", None), (" x", "["), ("\n", ""), ("语", None), ("</s>", "a"), ("Hello", "Assistant: "), ("x", "")]
    together = encoder([text for text, _ in pairs], [before for _, before in pairs])
    assert [part.tolist() for part in together.documents()] == [ids(encoder, *pair) for pair in pairs]
    assert encoder([], []).documents() == []
