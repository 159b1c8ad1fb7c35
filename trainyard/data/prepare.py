"""Text to a token store, once. The same inputs are found again by their fingerprint.

The fingerprint covers what decides the tokens: the bytes of the sources, how they are read, and the tokenizer's files.
A store is built aside and renamed into place, so a directory under prepared/ with a fingerprint's name is whole.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import xxhash

from trainyard.data import sources
from trainyard.data import tokenizer as tokenizers
from trainyard.data.encoder import BackendMismatchError
from trainyard.data.plan import ConcatPlan, split_documents
from trainyard.data.sources import DataError
from trainyard.data.store import StoreWriter, TokenStore
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig, SourceConfig

STORE_FORMAT = 2
"""Part of the fingerprint: raise it when the same inputs would give another store."""

BATCH_CHARACTERS = 4_000_000


class Encoder(Protocol):
    """Texts to tokens; `name` is the backend and `reason` why it was chosen."""

    name: str
    reason: str

    def __call__(self, texts: list[str]) -> Tokens: ...


class MakeEncoder(Protocol):
    def __call__(self, tokenizer: Any, sample: Sequence[str], data: DataConfig, *, fast: bool = True) -> Encoder: ...


Report = Callable[[int, int], None]
"""Called with the documents and the characters done so far."""


@dataclass(frozen=True)
class Request:
    """What to prepare and where."""

    outputs: Path
    stage: str
    data: DataConfig
    tokenizer_path: str | None
    """Directory or hub id; None: a tokenizer of `vocab_size` trained on the data."""
    vocab_size: int
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Prepared:
    """Where the store and the tokenizer lie."""

    store: Path
    tokenizer: str


def find(request: Request) -> Prepared | None:
    """The prepared data, if it is there. Imports nothing heavy and asks no network, so the controller can call it."""
    if any(_is_remote(source) for source in request.data.sources):
        return None
    digest = _sources_digest(request)
    tokenizer_path = request.tokenizer_path or str(_trained_tokenizer(request, digest))
    files = tokenizers.local_files(tokenizer_path)
    if not files:
        return None
    store = _store_directory(request, digest, files)
    return Prepared(store, tokenizer_path) if store.is_dir() else None


def prepare(request: Request, make_encoder: MakeEncoder, report: Report) -> Prepared:
    """Finds the prepared data or makes it. Starts that want the same data at once make it once.

    Raises:
        DataError: the sources or the tokenizer are not what they should be.
    """
    (request.outputs / "prepared").mkdir(parents=True, exist_ok=True)
    digest = _sources_digest(request)
    tokenizer_path = request.tokenizer_path
    if tokenizer_path is None:
        directory = _trained_tokenizer(request, digest)
        with _locked(directory):
            if not directory.is_dir():
                tokenizers.train(_documents(request), request.vocab_size, directory)
        tokenizer_path = str(directory)
    loaded = tokenizers.load(tokenizer_path, trust_remote_code=request.trust_remote_code)
    files = tokenizers.local_files(tokenizer_path)
    store = _store_directory(request, digest, files)
    with _locked(store):
        if not store.is_dir():
            try:
                _write_store(request, store, make_encoder, loaded, report, fast=True)
            except BackendMismatchError:
                _write_store(request, store, make_encoder, loaded, report, fast=False)
    return Prepared(store, tokenizer_path)


def read_summary(prepared: Prepared) -> dict[str, Any]:
    """What the preparation itself noted of a store."""
    return TokenStore(prepared.store).summary


def summarize(prepared: Prepared, data: DataConfig) -> dict[str, Any]:
    """The statistics of a store under a plan, as `python -m trainyard prepare` prints them."""
    store = TokenStore(prepared.store)
    training, held_out = split_documents(store, data.eval_fraction)
    plan = ConcatPlan.make(store, training, data.block_size, keep_tail=False)
    return {
        "prepared": str(prepared.store),
        "documents": len(store),
        "tokens": store.num_tokens,
        "sequences": len(plan),
        "fill": 1.0 if len(plan) else 0.0,  # blocks are full by construction
        "held_out": len(held_out),
        "tail": plan.tail,
        **{key: store.summary[key] for key in ("rejected", "tokenizer_backend", "seconds", "mb_per_s")},
    }


def _write_store(
    request: Request, store: Path, make_encoder: MakeEncoder, tokenizer: Any, report: Report, *, fast: bool
) -> None:
    started = time.monotonic()
    staging = store.with_name(f".{store.name}.{os.getpid()}")
    for leftover in store.parent.glob(f".{store.name}.[0-9]*"):  # the lock is ours: their makers are dead
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    count = characters = num_bytes = 0
    try:
        with StoreWriter(staging, len(tokenizer)) as writer:
            encode: Encoder | None = None
            for texts in _batches(_documents(request)):
                encode = encode or make_encoder(tokenizer, texts, request.data, fast=fast)
                raw = [text.encode("utf-8") for text in texts]
                writer.add(encode(texts), [xxhash.xxh3_64_intdigest(text) for text in raw])
                count += len(texts)
                characters += sum(map(len, texts))
                num_bytes += sum(map(len, raw))
                report(count, characters)
            if encode is None:
                raise DataError("data.sources hold no document: every file is empty")
            seconds = time.monotonic() - started
            writer.close(
                {
                    "rejected": 0,
                    "vocab_size": len(tokenizer),
                    "tokenizer_backend": encode.name,
                    "backend_reason": encode.reason,
                    "seconds": round(seconds, 3),
                    "mb_per_s": round(num_bytes / 1e6 / seconds, 3),
                    "bytes": num_bytes,
                }
            )
        staging.rename(store)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _documents(request: Request) -> Iterator[str]:
    for source in request.data.sources:
        yield from sources.documents(source)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# ---- fingerprints ----


def _is_remote(source: SourceConfig) -> bool:
    return source.format == "hub" and not Path(source.path).expanduser().exists()


def _sources_digest(request: Request) -> str:
    cache = _DigestCache(request.outputs / "prepared" / "digests.json")
    data = request.data
    parts: list[Any] = [STORE_FORMAT, request.stage, data.end_of_text, data.allow_special_tokens]
    for source in request.data.sources:
        how = {key: value for key, value in asdict(source).items() if key != "path"}
        if _is_remote(source):
            parts.append([how, source.path, _hub_revision(source)])
        else:
            parts.append([how, [cache.digest(file) for file in sources.files(source)]])
    cache.save()
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def _hub_revision(source: SourceConfig) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.path).sha)
    except Exception as error:  # the hub's and the network's errors share no base class
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source.path}: neither a local path nor a dataset that the hub would name: {reason}. "
            f"Check the id, HF_ENDPOINT and HF_TOKEN"
        ) from error


def _trained_tokenizer(request: Request, digest: str) -> Path:
    key = xxhash.xxh3_64_hexdigest(f"{digest} {request.vocab_size} {tokenizers.SPECIAL_TOKENS}".encode())
    return (request.outputs / "tokenizers" / key).absolute()


def _store_directory(request: Request, digest: str, tokenizer_files: list[Path]) -> Path:
    state = xxhash.xxh3_128(digest.encode())
    for file in tokenizer_files:
        if request.stage == "pretrain" and file.name == "chat_template.jinja":
            continue
        state.update(file.name.encode())
        state.update(file.read_bytes())
    return (request.outputs / "prepared" / state.hexdigest()).absolute()


class _DigestCache:
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


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds a lock beside a directory while it is made; the lock of a dead process holds nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
