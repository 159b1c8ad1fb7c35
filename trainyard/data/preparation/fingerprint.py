"""The content address of prepared data: what decides its tokens, and nothing else.

It covers the bytes of the sources, how they are read, the settings that change a token, and the tokenizer's files.
Paths, modification times, the plan's and the trainer's settings are not in it.
"""

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

import xxhash

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.config.stages import STAGES
from trainyard.data.sources import files
from trainyard.errors import DataError
from trainyard.files import digest, first_line, read_json, write_json

STORE_FORMAT = 5
"""Raise it when the same inputs would give another store."""


def sources_digest(stage: str, data: DataConfig, cache_file: Path) -> str:
    """The digest of all that is read and how, without the tokenizer.

    Raises:
        DataError: files that are not there or cannot be read; a hub that does not answer.
    """
    cache = DigestCache(cache_file)
    decisive = STAGES[stage].decisive
    parts: list[Any] = [STORE_FORMAT, stage, data.max_document_mb, *(getattr(data, name) for name in decisive)]
    for source in data.sources:
        kept = files.container(source)
        how = [source.format, source.columns, *([source.document] if source.format == "text" else [])]
        how += [source.split, source.subset] if kept == "hub" else []
        if files.is_remote(source):
            parts.append([how, source.path, hub_revision(source)])
        else:
            found = files.files(source)
            parts.append([how, [[cache.digest(file), _decisive_name(source, file)] for file in found]])
    cache.save()
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def _decisive_name(source: SourceConfig, file: Path) -> str:
    """What of a file's name says how it is read."""
    if source.format == "hub":  # its splits are found by name
        return str(file.relative_to(Path(source.path).expanduser())) if file.name != source.path else file.name
    return "".join(suffix for suffix in file.suffixes if suffix in (*files.COMPRESSED, ".json", ".parquet"))


def store_name(stage: str, digest: str, tokenizer_files: list[Path]) -> str:
    """The name of the store's directory. A chat template counts where the stage uses it."""
    ignored = ["model_max_length"] if STAGES[stage].uses_chat_template else ["model_max_length", "chat_template"]
    state = xxhash.xxh3_128(digest.encode())
    for file in tokenizer_files:
        content = file.read_bytes()
        if file.name == "chat_template.jinja" and not STAGES[stage].uses_chat_template:
            continue
        if file.name == "tokenizer_config.json":
            settings = json.loads(content)
            for name in ignored:
                settings.pop(name, None)
            content = json.dumps(settings, sort_keys=True).encode()
        state.update(file.name.encode())
        state.update(content)
    return state.hexdigest()


def hub_revision(source: SourceConfig) -> str:
    """The commit of a dataset on the hub; asked once, so that all that a process reads is of one."""
    return _revision(source.path)


@functools.cache
def _revision(path: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(path).sha)
    except Exception as error:  # the hub's and the network's errors share no base class
        raise DataError(
            f"{path}: neither a local path nor a dataset that the hub would name: {first_line(error)}. "
            f"Check the id, HF_ENDPOINT and HF_TOKEN"
        ) from error


class DigestCache:
    """Content digests of files, remembered by path, size, times and inode, so that a corpus is hashed once."""

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, list[Any]] = read_json(path)
        self.changed = False

    def digest(self, file: Path) -> str:
        status = file.stat()
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        key = str(file.absolute())
        entry = self.known.get(key)
        if entry and entry[:4] == identity:
            return str(entry[4])
        content = digest(file)
        self.known[key] = [*identity, content]
        self.changed = True
        return content

    def save(self) -> None:
        """Only beside data that is prepared already: a lookup alone leaves no trace."""
        if self.changed and self.path.parent.is_dir():
            with contextlib.suppress(OSError):  # read-only: it is hashed again next time
                write_json(self.path, self.known)
