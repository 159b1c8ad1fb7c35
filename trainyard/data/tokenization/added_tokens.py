"""Tokens that a run adds to a tokenizer (`tokenizer.add_tokens`): the result is a tokenizer in <outputs>/tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError

EXAMPLE = "['<|im_start|>', '<|im_end|>'], or as [{content: <protein>, special: false}]"


class Added(NamedTuple):
    """A token to add."""

    content: str
    special: bool
    """Only the chat template can write it; otherwise any text that spells it becomes this token."""


def parse(entries: Sequence[Any]) -> list[Added]:
    """The tokens of the setting: strings, which are special, or mappings with `content` and `special`.

    Raises:
        ValueError: an entry is neither, or a token is named twice.
    """
    added: list[Added] = []
    for entry in entries:
        fields = {"content": entry} if isinstance(entry, str) else entry
        known = isinstance(fields, dict) and fields.keys() <= {"content", "special"}
        content = fields.get("content") if known else None
        special = fields.get("special", True) if known else None
        if not isinstance(content, str) or not content.strip() or not isinstance(special, bool):
            raise ValueError(f"{entry!r} is no token; give them as {EXAMPLE}")
        if content in (token.content for token in added):
            raise ValueError(f"{content!r} stands there twice")
        added.append(Added(content, special))
    return added


def directory_of(root: Path, base: str, entries: Sequence[Any]) -> Path | None:
    """The directory of a tokenizer with these tokens; None while the files of `base` are not on this machine."""
    files = tokenizers.local_files(base)
    if not files:
        return None
    state = xxhash.xxh3_64(json.dumps(parse(entries)).encode())
    for file in files:
        state.update(file.name.encode() + file.read_bytes())
    return root / state.hexdigest()


def extend(base: str, entries: Sequence[Any], root: Path, *, trust_remote_code: bool) -> Path:
    """Saves the tokenizer of `base` with further tokens; returns its directory.

    Raises:
        DataError: the tokenizer has one of the tokens already.
    """
    from transformers import AddedToken

    tokenizer = tokenizers.load(base, trust_remote_code=trust_remote_code)
    tokens = parse(entries)
    known = [token.content for token in tokens if token.content in tokenizer.get_vocab()]
    if known:
        raise DataError(f"tokenizer.add_tokens={known}: {base} has them already; leave them out")
    tokenizer.add_tokens([AddedToken(token.content, special=token.special, normalized=False) for token in tokens])
    target = directory_of(root, base, entries)
    assert target is not None, "a tokenizer that was loaded lies on this machine"
    tokenizers.publish(tokenizer, target)
    return target


def ids(tokenizer: Any, entries: Sequence[Any]) -> list[int]:
    """The ids of the tokens in a tokenizer that has them."""
    return [tokenizer.convert_tokens_to_ids(token.content) for token in parse(entries)]
