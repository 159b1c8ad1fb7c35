"""Text to a token store, once. The same inputs are found again by their fingerprint.

A store is built aside in parts and renamed into place, so a directory under prepared/ with a fingerprint's name is
whole. What a killed preparation has finished is taken over by the next one.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from trainyard.config.schema import DataConfig
from trainyard.config.stages import STAGES
from trainyard.data.conversations.conversation import Conversation
from trainyard.data.preparation import fingerprint
from trainyard.data.preparation.parts import MakeEncoder, Parts, Report, group
from trainyard.data.preparation.publish import check_rejected, publish
from trainyard.data.preparation.request import DataRequest, Prepared, Share
from trainyard.data.sequences import plans
from trainyard.data.sources import files as sources
from trainyard.data.sources import hub
from trainyard.data.sources.pieces import Piece, pieces
from trainyard.data.sources.reader import Reader
from trainyard.data.store import TokenStore
from trainyard.data.tokenization import added_tokens
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.files import locked

MOST_PARTS = 4000
"""Parts of a corpus, about; a large corpus has larger parts. Each part is a file that every reader maps."""


def find(request: DataRequest) -> Prepared | None:
    """The prepared data, if it is there. Imports nothing heavy and asks no network, so the controller can call it."""
    if any(sources.is_remote(source) for source in request.data.sources):
        return None
    digest = _digest(request)
    tokenizer_path = request.tokenizer_path or str(_trained_tokenizer(request, digest))
    if request.add_tokens:
        tokenizer_path = str(added_tokens.directory(_tokenizers(request), tokenizer_path, request.add_tokens))
    files = tokenizers.local_files(tokenizer_path)
    if not files:
        return None
    store = _store(request, digest, files)
    if not plans.directory(store, request.data, request.seed).is_dir():
        return None
    try:
        _check(store, request.data)
    except DataError:  # the preparation says so
        return None
    return Prepared(store, tokenizer_path)


def prepare(
    request: DataRequest,
    make_encoder: MakeEncoder,
    report: Report,
    *,
    share: Share | None = None,
    helping: bool = False,
) -> Prepared | None:
    """Finds the prepared data or makes it. Starts that want the same data at once share the work.

    Args:
        share: makes this share alone; whoever finishes the last part publishes.
        helping: makes parts and leaves the publishing to another.

    Returns:
        None when parts are missing that are not in this share.

    Raises:
        DataError: the sources or the tokenizer are not what they should be.
    """
    (request.outputs / "prepared").mkdir(parents=True, exist_ok=True)
    digest = _digest(request)
    tokenizer_path = request.tokenizer_path
    if tokenizer_path is None:
        directory = _trained_tokenizer(request, digest)
        with locked(directory):
            if not directory.is_dir():
                tokenizers.train(_texts(request), request.vocab_size, directory)
        tokenizer_path = str(directory)
    if request.add_tokens:
        tokenizer_path = _with_added_tokens(request, tokenizer_path)
    loaded = tokenizers.load(tokenizer_path, trust_remote_code=request.trust_remote_code)
    store = _store(request, digest, tokenizers.local_files(tokenizer_path))
    if not store.is_dir():
        parts = _parts(request, store, loaded, make_encoder, report)
        numbers = share.of(len(parts.parts)) if share else None
        parts.make(numbers, wait=not helping)
        if helping:
            return None
        with locked(store):
            if not store.is_dir():
                if parts.unfinished():
                    return None
                if _digest(request) != digest:
                    shutil.rmtree(parts.directory, ignore_errors=True)
                    raise DataError("the files of data.sources have changed while they were read; start again")
                publish(parts, store)
    _check(store, request.data)
    target = plans.directory(store, request.data, request.seed)
    if not target.is_dir():
        plans.save(plans.make(TokenStore(store), request.data, request.seed), target)
    return Prepared(store, tokenizer_path)


def read_summary(store: Path) -> dict[str, Any]:
    """What the preparation itself noted of a store."""
    return dict(json.loads((store / "summary.json").read_text(encoding="utf-8")))


def summarize(prepared: Prepared, request: DataRequest) -> dict[str, Any]:
    """The statistics of a store under its plan, as `python -m trainyard prepare` prints them."""
    store = TokenStore(prepared.store)
    made = plans.load(plans.directory(prepared.store, request.data, request.seed))
    on_disk = sum(file.stat().st_size for file in prepared.store.iterdir() if file.is_file())
    conversations = {}
    if store.masked:
        both = (made.train, made.held_out)
        conversations = {
            "learned_tokens": store.summary["learned_tokens"],
            "cut": sum(plan.shortened for plan in both),
            "dropped": sum(plan.dropped for plan in both),
        }
    return {
        "prepared": str(prepared.store),
        "documents": len(store),
        "tokens": store.num_tokens,
        "sequences": len(made.train),
        "fill": round(made.train.fill, 6),
        "held_out": len(plans.split_documents(store.hashes, request.data.eval_fraction)[1]),
        "tail": made.train.tail,
        "bytes_per_token": round(on_disk / max(1, store.num_tokens), 4),
        **{key: store.summary[key] for key in ("rejected", "tokenizer_backend", "seconds", "mb_per_s")},
        **conversations,
    }


def histogram(prepared: Prepared) -> list[tuple[int, int]]:
    """Tokens per document as (upper bound, documents) with bounds that double: (2, 1) is one document of 1 or 2."""
    lengths = np.asarray(TokenStore(prepared.store).lengths, dtype=np.int64)
    exponents = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    counts = np.bincount(exponents)
    return [(1 << exponent, int(counts[exponent])) for exponent in range(int(exponents.min()), len(counts))]


def source_bytes(request: DataRequest) -> int:
    """Bytes on disk behind the local sources; what to share among processes is judged by it."""
    local = [source for source in request.data.sources if not sources.is_remote(source)]
    return sum(file.stat().st_size for source in local for file in sources.files(source))


def count_parts(request: DataRequest) -> int:
    """Parts into which the work is divided; no more processes can share it."""
    return len(group(_pieces(request), _part_bytes(request)))


def _check(store: Path, data: DataConfig) -> None:
    summary = read_summary(store)
    if summary["rejected"]:
        check_rejected(store, summary["rejected"], sum(source["documents"] for source in summary["sources"]), data)


def _parts(request: DataRequest, store: Path, tokenizer: Any, make_encoder: MakeEncoder, report: Report) -> Parts:
    grouped = group(_pieces(request), _part_bytes(request))
    directory = store.with_name(f".{store.name}.{len(grouped)}.parts")
    with locked(store):  # nobody publishes meanwhile, so this does not leave an empty directory behind
        if not store.is_dir():
            directory.mkdir(exist_ok=True)
    masked = STAGES[request.stage].masked
    return Parts(directory, grouped, request.data, _readers(request), tokenizer, make_encoder, report, masked)


def _readers(request: DataRequest) -> list[Reader]:
    limit = int(request.data.max_document_mb * 1e6)
    return [Reader(source, limit, hub.revision(source)) for source in request.data.sources]


def _pieces(request: DataRequest) -> Iterator[Piece]:
    part_bytes = _part_bytes(request)
    for number, source in enumerate(request.data.sources):
        yield from pieces(number, source, part_bytes, hub.revision(source))


def _part_bytes(request: DataRequest) -> int:
    return request.part_bytes or max(STAGES[request.stage].smallest_part, source_bytes(request) // MOST_PARTS)


def _texts(request: DataRequest) -> Iterator[str]:
    """The good documents, for the tokenizer's training; the bad ones are named when the parts are made."""
    readers = _readers(request)
    for piece in _pieces(request):
        for _, document in readers[piece.source](piece):
            if isinstance(document, str):
                yield document
            elif isinstance(document, Conversation):
                yield "\n".join(message["content"] for message in document.messages)


def _digest(request: DataRequest) -> str:
    return fingerprint.sources_digest(request.stage, request.data, request.outputs / "prepared" / "digests.json")


def _trained_tokenizer(request: DataRequest, digest: str) -> Path:
    key = xxhash.xxh3_64_hexdigest(f"{digest} {request.vocab_size} {tokenizers.SPECIAL_TOKENS}".encode())
    return _tokenizers(request) / key


def _with_added_tokens(request: DataRequest, base: str) -> str:
    root = _tokenizers(request)
    made = added_tokens.directory(root, base, request.add_tokens)
    if made is None or not made.is_dir():
        trust = request.trust_remote_code
        made = added_tokens.extend(base, request.add_tokens, root, trust_remote_code=trust)
    return str(made)


def _tokenizers(request: DataRequest) -> Path:
    return (request.outputs / "tokenizers").absolute()


def _store(request: DataRequest, digest: str, tokenizer_files: list[Path]) -> Path:
    if not tokenizer_files:
        raise DataError(f"tokenizer.path={request.tokenizer_path}: its files are not on this machine to be told apart")
    name = fingerprint.store_name(request.stage, digest, tokenizer_files)
    return (request.outputs / "prepared" / name).absolute()
