"""Rows of JSON lists, parquet files and local datasets, each with its number."""

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.rows import dataset_rows, json_rows, parquet_rows, text_columns
from trainyard.errors import DataError

TABLE = pa.table({"id": [1, 2, 3], "text": ["a", "b", None], "more": [[1], [], None]})


@pytest.fixture
def parquet(tmp_path: Path) -> str:
    """Three rows, each in a row group of its own."""
    path = tmp_path / "rows.parquet"
    pq.write_table(TABLE, path, row_group_size=1)
    return str(path)


def test_items_of_a_json_list_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1},\n\n {"a":\n 2}, 3]\n')
    read: list[int] = []
    assert list(json_rows(Piece(0, str(path)), 100, read.append)) == [(0, {"a": 1}), (2, {"a": 2}), (3, 3)]
    assert read == [path.stat().st_size] * 3


def test_rows_of_parquet_are_numbered_within_the_file(parquet: str) -> None:
    rows = [(0, {"text": "a"}), (1, {"text": "b"}), (2, {"text": None})]
    assert list(parquet_rows(Piece(0, parquet), "text", [])) == rows
    assert list(parquet_rows(Piece(0, parquet, 1, 3), "text", [])) == rows[1:]
    assert list(parquet_rows(Piece(0, parquet, 0, 1), None, ["more", "gone", "id"])) == [(0, {"more": [1], "id": 1})]


def test_a_column_that_must_be_there_is_named(parquet: str) -> None:
    with pytest.raises(DataError) as caught:
        list(parquet_rows(Piece(0, parquet), "body", []))
    assert caught.value.problems == [f"{parquet}: no column 'body', only 'id', 'text', 'more'"]


def test_a_value_that_python_cannot_hold_is_named_by_a_row_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"when": pa.array([0] * 70 + [2**60], pa.timestamp("us"))}), path)
    rows = parquet_rows(Piece(0, str(path)), "when", [])
    assert [number for number, _ in itertools.islice(rows, 64)] == list(range(64))
    with pytest.raises(DataError) as caught:
        next(rows)
    assert caught.value.problems == [f"{path}, after row 64: date value out of range. What follows cannot be read"]


def test_the_columns_of_a_parquet_file_by_whether_they_hold_text(tmp_path: Path) -> None:
    table = pa.table({"a": ["x"], "b": [1], "c": pa.array(["x"]).dictionary_encode(), "d": pa.array([b"x"])})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert text_columns(str(tmp_path / "rows.parquet")) == {"a": "", "b": None, "c": "", "d": None}


def test_rows_of_a_dataset_shard_by_shard(tmp_path: Path) -> None:
    for number in range(2):
        pq.write_table(pa.table({"text": [f"{number}a", f"{number}b"]}), tmp_path / f"train-{number}.parquet")
    source = SourceConfig(path=str(tmp_path), format="hub")
    shards = [list(dataset_rows(Piece(0, source.path, shard, 2), source, None)) for shard in range(2)]
    assert shards == [[(0, {"text": "0a"}), (1, {"text": "0b"})], [(0, {"text": "1a"}), (1, {"text": "1b"})]]
    whole = [row["text"] for _, row in dataset_rows(Piece(0, source.path), source, None)]
    assert whole == ["0a", "0b", "1a", "1b"]


def test_a_dataset_that_breaks_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a"}) + "\n{broken\n")
    source = SourceConfig(path=str(tmp_path), format="hub")
    with pytest.raises(DataError) as caught:
        list(dataset_rows(Piece(0, source.path), source, None))
    assert caught.value.problems[0].startswith(f"{tmp_path} (split train): ")
