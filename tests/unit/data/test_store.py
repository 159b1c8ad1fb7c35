from pathlib import Path

import datasets
import numpy as np
import pytest

from trainyard.data.store import ArrowWriter, TokenStore, describe, token_dtype
from trainyard.data.tokenization.encoded import Tokens


def make_store(
    directory: Path,
    documents: list[list[int]],
    vocab_size: int = 100,
    per_batch: int = 2,
    masks: list[list[int]] | None = None,
    cuts: list[list[int]] | None = None,
) -> TokenStore:
    """Documents of ids as a store of two Arrow files, `per_batch` documents to a batch; with masks, conversations."""
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
    summary = {"sources": [{"documents": len(documents)}]}
    describe(directory, ["a.arrow", "b.arrow"], vocab_size, summary, masked=masks is not None)
    return TokenStore(directory)


def test_a_store_opens_with_datasets_and_reads_back(tmp_path: Path) -> None:
    documents = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    store = make_store(tmp_path, documents)
    rows = datasets.load_from_disk(str(tmp_path))
    assert rows.column_names == ["input_ids"]
    assert rows["input_ids"][:] == documents
    assert rows.features["input_ids"].feature.dtype == "uint16"
    assert len(store) == 5
    assert store.num_tokens == 11
    assert store.lengths.tolist() == [3, 1, 2, 4, 1]
    assert store.read(0, 11).tolist() == list(range(1, 12))
    assert store.read(2, 5).tolist() == [3, 4, 5]  # across two files
    assert store.read(4, 4).tolist() == []


def test_reading_within_a_batch_copies_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[1, 2, 3], [4, 5, 6], [7], [8]])
    view = store.read(1, 5)
    assert not view.flags.owndata
    assert not view.flags.writeable


@pytest.mark.parametrize(("vocab", "dtype"), [(100, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_tokens_take_the_smallest_type(vocab: int, dtype: str) -> None:
    assert token_dtype(vocab).name == dtype


def test_large_ids_survive(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[151_000, 70_000]], vocab_size=151_936)
    assert store.read(0, 2).tolist() == [151_000, 70_000]
