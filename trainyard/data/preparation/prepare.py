"""Sources to a token store and its plans, once: the same inputs are found again by their fingerprint.

A store is built in parts in a directory beside its place and renamed when it is whole, so a directory under prepared/
that has a fingerprint's name is whole. What a killed preparation has finished is taken over by the next one.
"""

import shutil
from pathlib import Path
from typing import Any

from trainyard.config.schema import DataConfig
from trainyard.config.stages import STAGES
from trainyard.data.preparation import chosen_tokenizer, division, fingerprint
from trainyard.data.preparation.chosen_encoder import ChosenEncoder, MakeEncoder
from trainyard.data.preparation.parts import Parts, Report
from trainyard.data.preparation.publish import check_rejected, publish
from trainyard.data.preparation.request import DataRequest, Prepared, Share
from trainyard.data.sequences import plans
from trainyard.data.sources.files import is_remote
from trainyard.data.store import StoreSummary, TokenStore
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.files import is_forbidden, locked


def find(request: DataRequest) -> Prepared | None:
    """The prepared data, if it is there. Imports nothing heavy and asks no network, so the controller can call it."""
    if any(is_remote(source) for source in request.data.sources):
        return None
    digest = _digest(request)
    tokenizer_path = chosen_tokenizer.expected(request, digest)
    files = tokenizers.local_files(tokenizer_path)
    if not files:
        return None
    store = _store(request, digest, files)
    if not plans.directory_of(store, request.data, request.seed).is_dir():
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
        make_encoder: the stage's Encoder class; the data layer knows no stage.
        report: is told the progress.
        share: makes this share alone; the process that finishes the last part publishes the store.
        helping: makes parts and leaves the publishing to another process.

    Returns:
        None when parts are missing that are not in this share.

    Raises:
        DataError: the sources or the tokenizer are not what they should be.
    """
    (request.outputs / "prepared").mkdir(parents=True, exist_ok=True)
    digest = _digest(request)
    tokenizer_path = chosen_tokenizer.made(request, digest)
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
    target = plans.directory_of(store, request.data, request.seed)
    if not target.is_dir():
        made = plans.make(TokenStore(store), request.data, request.seed)
        try:
            plans.save(made, target)
        except OSError as error:
            if not is_forbidden(error):  # in the store of another account the ranks make their plan in memory
                raise
    return Prepared(store, tokenizer_path)


def _digest(request: DataRequest) -> str:
    return fingerprint.sources_digest(request.stage, request.data, request.outputs / "prepared" / "digests.json")


def _store(request: DataRequest, digest: str, tokenizer_files: list[Path]) -> Path:
    """Where the store lies, or will lie."""
    if not tokenizer_files:
        raise DataError(f"tokenizer.path={request.tokenizer_path}: its files are not on this machine to be told apart")
    name = fingerprint.store_name(request.stage, digest, tokenizer_files)
    return (request.outputs / "prepared" / name).absolute()


def _check(store: Path, data: DataConfig) -> None:
    """Raises a DataError if more documents of a store were left out than these settings allow."""
    summary = StoreSummary.read(store)
    if summary.rejected:
        check_rejected(store, summary.rejected, sum(source.documents for source in summary.sources), data)


def _parts(request: DataRequest, store: Path, tokenizer: Any, make_encoder: MakeEncoder, report: Report) -> Parts:
    """The parts of a store, in a directory beside it."""
    divided = division.parts(request)
    directory = store.with_name(f".{store.name}.{len(divided)}.parts")
    with locked(store):  # nobody publishes meanwhile, so this does not leave an empty directory behind
        if not store.is_dir():
            directory.mkdir(exist_ok=True)
    return Parts(
        directory=directory,
        parts=divided,
        readers=division.readers(request),
        encoder=ChosenEncoder(directory, make_encoder, tokenizer, request.data),
        vocab_size=tokenizers.vocab_size(tokenizer),
        masked=STAGES[request.stage].masked,
        data=request.data,
        report=report,
    )
