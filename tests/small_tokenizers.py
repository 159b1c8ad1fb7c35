"""Small tokenizers of the kinds that real models have, trained on a few texts."""

import json
from functools import cache
from typing import Any

from conftest import make_documents
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast, T5Tokenizer

SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<start_of_turn>", "<end_of_turn>",
]  # fmt: skip
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TALK = ["Human: Hello.\n\nAssistant: See you.\n\n", "[INST] Be brief. [/INST] Hello.", "user\n", "assistant\n", "\n\n"]

KINDS = ("byte_level", "llama", "llama_legacy", "prepend", "gemma", "unigram", "t5")
"""They differ in the spaces that they add: llama one before the first word of a text; llama_legacy, prepend and unigram
also one after each special token; t5 one before every word; byte_level and gemma none."""


def small_tokenizer(kind: str) -> Any:
    """A tokenizer of one of KINDS, with the special tokens of all chat templates."""
    tokenizer = globals()[f"_{kind}"]()
    tokenizer.add_tokens([token for token in SPECIAL if token not in tokenizer.all_special_tokens], special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    return tokenizer


def _texts() -> list[str]:
    return [*make_documents(30), *TALK * 20, *["the yard and the yards"] * 20]


@cache
def _pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of a BPE with byte fallback."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, limit_alphabet=80, show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in _texts()], trainer)
    made = json.loads(tokenizer.to_str())["model"]
    return made["vocab"], [tuple(pair) for pair in made["merges"]]


def _byte_level() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _llama() -> Any:
    vocab, merges = _pieces()
    return LlamaTokenizer(vocab=vocab, merges=merges)


def _llama_legacy() -> Any:
    vocab, merges = _pieces()
    return LlamaTokenizer(vocab=vocab, merges=merges, legacy=True)


def _prepend() -> Any:
    vocab, merges = _pieces()
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def _gemma() -> Any:
    vocab, merges = _pieces()
    own = {"<pad>": len(vocab), "<bos>": len(vocab) + 1, "<eos>": len(vocab) + 2, "<mask>": len(vocab) + 3}
    lines = {"\n": len(vocab) + 4, "\n\n": len(vocab) + 5}
    return GemmaTokenizer(vocab=vocab | own | lines, merges=[*merges, ("\n", "\n")])


def _scored() -> list[tuple[str, float]]:
    """The same pieces with scores for a Unigram model, which prefers the fewest pieces. It has no line breaks."""
    special = {"<unk>", "<s>", "</s>", *BYTES}
    return [(piece, -10 - number / 1000) for piece, number in _pieces()[0].items() if piece not in special]


def _unigram() -> Any:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *_scored()], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def _t5() -> Any:
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *_scored()], extra_ids=0)
