"""The tokenizer of a preparation: that of tokenizer.path, or one trained on the corpus; either may get further tokens.

Trained and extended tokenizers lie in `<outputs>/tokenizers`, named by a digest of what they were made from.
"""

from collections.abc import Iterator
from pathlib import Path

import xxhash

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.preparation import division
from trainyard.data.preparation.request import DataRequest
from trainyard.data.tokenization import added_tokens
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.files import locked


def expected(request: DataRequest, digest: str) -> str:
    """The directory or hub id of the tokenizer, which may not be made yet.

    Args:
        digest: of the sources; see fingerprint.sources_digest.
    """
    path = request.tokenizer_path or str(_trained(request, digest))
    if request.add_tokens:
        path = str(added_tokens.directory_of(_root(request), path, request.add_tokens))
    return path


def made(request: DataRequest, digest: str) -> str:
    """The same, after training or extending the tokenizer if it is not made yet.

    Raises:
        DataError: the sources cannot be read, or the tokenizer has the added tokens already.
    """
    path = request.tokenizer_path
    if path is None:
        directory = _trained(request, digest)
        if not directory.is_dir():
            with locked(directory):
                if not directory.is_dir():
                    tokenizers.train(_texts(request), request.vocab_size, directory)
        path = str(directory)
    return _extended(request, path) if request.add_tokens else path


def _root(request: DataRequest) -> Path:
    return (request.outputs / "tokenizers").absolute()


def _trained(request: DataRequest, digest: str) -> Path:
    key = xxhash.xxh3_64_hexdigest(f"{digest} {request.vocab_size} {tokenizers.SPECIAL_TOKENS}".encode())
    return _root(request) / key


def _extended(request: DataRequest, base: str) -> str:
    root = _root(request)
    found = added_tokens.directory_of(root, base, request.add_tokens)
    if found is None or not found.is_dir():
        trust = request.trust_remote_code
        found = added_tokens.extend(base, request.add_tokens, root, trust_remote_code=trust)
    return str(found)


def _texts(request: DataRequest) -> Iterator[str]:
    """The good documents, for the training of a tokenizer; bad documents are named when the parts are made."""
    readers = division.readers(request)
    for piece in division.all_pieces(request):
        for _, document in readers[piece.source](piece):
            if isinstance(document, str):
                yield document
            elif isinstance(document, Conversation):
                yield "\n".join(message["content"] for message in document.messages)
