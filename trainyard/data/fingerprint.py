"""The content address of prepared data: what decides its tokens, and nothing else.

It covers the bytes of the sources, how they are read, the settings that change a token, and the tokenizer's files.
Paths, modification times, the plan's and the trainer's settings are not in it.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from trainyard.data import sources
from trainyard.data.sources import DataError
from trainyard.schema import DataConfig, SourceConfig

STORE_FORMAT = 3
"""Raise it when the same inputs would give another store."""

CONVERSATION = ("chat_template", "template_variables", "learn", "train_on_prompt")
"""Settings that change the tokens or the mask of a conversation."""

_NOT_READING = ("path", "weight", "epochs")
"""Settings of a source that do not change what is read from it."""


def sources_digest(stage: str, data: DataConfig, cache_file: Path) -> str:
    """The digest of all that is read and how, without the tokenizer.

    Raises:
        DataError: files that are not there or cannot be read; a hub that does not answer.
    """
    cache = DigestCache(cache_file)
    decisive = {"pretrain": ("end_of_text", "allow_special_tokens"), "sft": CONVERSATION}[stage]
    parts: list[Any] = [STORE_FORMAT, stage, data.max_document_mb, *(getattr(data, name) for name in decisive)]
    for source in data.sources:
        how = {key: value for key, value in asdict(source).items() if key not in _NOT_READING}
        if sources.is_remote(source):
            parts.append([how, source.path, hub_revision(source)])
        else:
            found = sources.files(source)
            parts.append([how, [[cache.digest(file), *({file.suffix} & {*sources.COMPRESSED})] for file in found]])
    cache.save()
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def store_name(stage: str, digest: str, tokenizer_files: list[Path]) -> str:
    """The name of the store's directory. Pretraining does not look at a chat template."""
    state = xxhash.xxh3_128(digest.encode())
    for file in tokenizer_files:
        if stage == "pretrain" and file.name == "chat_template.jinja":
            continue
        state.update(file.name.encode())
        state.update(file.read_bytes())
    return state.hexdigest()


def hub_revision(source: SourceConfig) -> str:
    """The commit of a dataset on the hub."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.path).sha)
    except Exception as error:  # the hub's and the network's errors share no base class
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source.path}: neither a local path nor a dataset that the hub would name: {reason}. "
            f"Check the id, HF_ENDPOINT and HF_TOKEN"
        ) from error


class DigestCache:
    """Content digests of files, remembered by path, size, times and inode, so that a corpus is hashed once."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.known: dict[str, list[Any]] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.known = {}
        self.changed = False

    def digest(self, file: Path) -> str:
        status = file.stat()
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        key = str(file.absolute())
        entry = self.known.get(key)
        if entry and entry[:4] == identity:
            return str(entry[4])
        state = xxhash.xxh3_128()
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
        self.known[key] = [*identity, state.hexdigest()]
        self.changed = True
        return state.hexdigest()

    def save(self) -> None:
        """Only beside data that is prepared already: a lookup alone leaves no trace."""
        if self.changed and self.path.parent.is_dir():
            staging = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            staging.write_text(json.dumps(self.known))
            staging.replace(self.path)
