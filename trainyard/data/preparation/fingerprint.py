"""The content address of prepared data. It covers everything that decides the tokens, and nothing else:
the bytes of the sources, how they are read, the settings that change a token, and the tokenizer's files. Paths,
modification times, and the settings of the plan and the trainer are not in it.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import xxhash

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.config.stages import STAGES
from trainyard.data.conversations.formats import COLUMNS
from trainyard.data.conversations.shipped import shipped
from trainyard.data.sources import files, hub
from trainyard.data.tokenization.chat_templates import FOLDER
from trainyard.files import digest, read_json, write_text

STORE_FORMAT = 5
"""Raise it when the same inputs would give another store."""

ENCODING = 2
"""Raise it when chat templates would give conversations other ids or masks. The templates that come with trainyard give
what they gave in version 0.1, whose stores are found again."""


def sources_digest(stage: str, data: DataConfig, cache_file: Path) -> str:
    """The digest of the sources' bytes and of how they are read, without the tokenizer.

    Args:
        cache_file: where the digests of files are remembered; see DigestCache.

    Raises:
        DataError: a file is not there or cannot be read, or the hub does not answer.
    """
    cache = DigestCache(cache_file)
    decisive = STAGES[stage].decisive
    parts: list[Any] = [STORE_FORMAT, stage, data.max_document_mb, *(getattr(data, name) for name in decisive)]
    for name in STAGES[stage].decisive_later:
        if (value := getattr(data, name)) != getattr(DataConfig(), name):
            parts.append([name, value])
    parts += _encoding(stage, data)
    for source in data.sources:
        kept = files.container(source)
        how = [source.format, source.columns, *([source.document] if source.format == "text" else [])]
        how += [source.split, source.subset] if kept == "hub" else []
        if files.is_remote(source):
            parts.append([how + _arrow_rows(source, []), source.path, hub.revision(source)])
        else:
            found = files.files(source)
            how += _arrow_rows(source, found)
            parts.append([how, [[cache.digest(file), _decisive_name(source, file)] for file in found]])
    cache.save()
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def _encoding(stage: str, data: DataConfig) -> list[Any]:
    """How chat templates are rendered; nothing where that is as in version 0.1."""
    if not STAGES[stage].uses_chat_template or data.chat_template in shipped().values():
        return []
    return [["encoding", ENCODING]]


def _decisive_name(source: SourceConfig, file: Path) -> str:
    """The part of a file's name that says how it is read."""
    if source.format == "hub":  # its splits are found by name
        return str(file.relative_to(Path(source.path).expanduser())) if file.name != source.path else file.name
    return "".join(suffix for suffix in file.suffixes if suffix in (*files.COMPRESSED, ".json", ".parquet"))


def _arrow_rows(source: SourceConfig, found: list[Path]) -> list[str]:
    """How conversations are read where Arrow keeps them; version 0.1 left the nulls of Arrow's structs in them.

    Args:
        found: the files of the source; none for a dataset of the hub.
    """
    is_arrow = not found or any(".parquet" in file.suffixes for file in found)
    return ["without nulls"] if is_arrow and source.format in COLUMNS else []


def store_name(stage: str, digest: str, tokenizer_files: list[Path]) -> str:
    """The name of the store's directory: the digest of the sources with the tokenizer's files.

    The tokenizer's chat template counts only for a stage that uses it.
    """
    ignored = ["model_max_length"] if STAGES[stage].uses_chat_template else ["model_max_length", "chat_template"]
    state = xxhash.xxh3_128(digest.encode())
    for file in tokenizer_files:
        content = file.read_bytes()
        is_template = file.name == "chat_template.jinja" or file.parent.name == FOLDER
        if is_template and not STAGES[stage].uses_chat_template:
            continue
        if file.name == "tokenizer_config.json":
            settings = json.loads(content)
            for name in ignored:
                settings.pop(name, None)
            content = json.dumps(settings, sort_keys=True).encode()
        state.update(file.name.encode())
        state.update(content)
    return state.hexdigest()


class DigestCache:
    """Content digests of files, remembered by path, size, times and inode, so that a corpus is hashed once."""

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, list[Any]] = read_json(path)
        self.changed = False

    def digest(self, file: Path) -> str:
        """The digest of a file's content, from the cache if the file is the same."""
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
        """Writes the digests, if the cache's directory is there: a lookup before any preparation leaves no trace."""
        if self.changed and self.path.parent.is_dir():
            with contextlib.suppress(OSError):  # read-only: the files are hashed again next time
                write_text(self.path, json.dumps(self.known))
