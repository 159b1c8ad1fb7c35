"""Small token stores, for the tests of what reads them."""

from pathlib import Path

import numpy as np

from trainyard.data.store import ArrowWriter, SourceCounts, StoreSummary, TokenStore, describe
from trainyard.data.tokenization.encoded import Tokens


def make_store(
    directory: Path,
    documents: list[list[int]],
    vocab_size: int = 100,
    per_batch: int = 2,
    masks: list[list[int]] | None = None,
    cuts: list[list[int]] | None = None,
) -> TokenStore:
    """A store of documents in two Arrow files, `per_batch` documents to a batch.

    Args:
        masks: the loss masks; with them the documents are conversations.
        cuts: the cut points of each conversation, the first one 2**32 - 1 where it is unknown.
    """
    directory.mkdir(parents=True, exist_ok=True)
    half = len(documents) // 2
    for name, span in (("a.arrow", range(half)), ("b.arrow", range(half, len(documents)))):
        with ArrowWriter(directory / name, vocab_size, masked=masks is not None) as writer:
            for first in span[::per_batch]:
                batch = slice(first, min(first + per_batch, span.stop))
                flat = [flag for row in masks[batch] for flag in row] if masks else []
                writer.add(Tokens.join(documents[batch])._replace(loss_mask=np.array(flat, np.uint8)))
    if cuts is not None:
        np.save(directory / "cuts.npy", np.array([place for row in cuts for place in row], np.uint32))
        np.save(directory / "cut_counts.npy", np.array([len(row) for row in cuts], np.uint32))
    np.save(directory / "lengths.npy", np.array([len(ids) for ids in documents], dtype=np.uint32))
    np.save(directory / "hashes.npy", np.array([sum(ids) for ids in documents], dtype=np.uint64))
    summary = StoreSummary(
        rejected=0,
        vocab_size=vocab_size,
        tokenizer_backend="tokenizers",
        backend_reason="asked for",
        seconds=1.0,
        mb_per_s=1.0,
        bytes=1,
        sources=[SourceCounts(len(documents), sum(map(len, documents)))],
        learned_tokens=sum(map(sum, masks)) if masks else None,
    )
    describe(directory, ["a.arrow", "b.arrow"], summary, masked=masks is not None)
    return TokenStore(directory)
