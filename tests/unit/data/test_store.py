"""The store on disk: what datasets reads of it, and what we read."""

import json
from pathlib import Path

import datasets
import pytest

from trainyard.data.store import StoreSummary, flat_cut_points, token_dtype
from trainyard.data.tokenization.encoded import CutPoints
from trainyard.errors import DataError
from unit.stores import make_store


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


def test_cut_points_of_conversations(tmp_path: Path) -> None:
    points = [CutPoints(0), CutPoints(2, [5, 8]), CutPoints(None, [1]), CutPoints(None)]
    flat = [flat_cut_points(each) for each in points]
    assert flat == [[0], [2, 5, 8], [2**32 - 1, 1], [2**32 - 1]]
    store = make_store(tmp_path, [[1], [2], [3], [4]], masks=[[1]] * 4, cuts=flat)
    assert [store.cut_points(document) for document in range(4)] == [(p.first, list(p.later)) for p in points]


def test_keys_of_another_version_in_the_summary_are_passed_over(tmp_path: Path) -> None:
    summary = make_store(tmp_path, [[1, 2]]).summary
    facts = json.loads((tmp_path / "summary.json").read_text())
    sources = [source | {"mood": "good"} for source in facts["sources"]]
    (tmp_path / "summary.json").write_text(json.dumps(facts | {"sources": sources, "mood": "good"}))
    assert StoreSummary.read(tmp_path) == summary


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"sources": 3}', '{"rejected": 0, "sources": []}'])
def test_a_damaged_summary_is_named_with_the_way_on(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(DataError, match=f"summary.json: damaged or missing .*Delete {tmp_path}; the same command then"):
        StoreSummary.read(tmp_path)
