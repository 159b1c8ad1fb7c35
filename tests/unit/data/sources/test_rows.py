"""Rows of JSON lists, parquet files and local datasets, each with its number."""

import datetime
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.documents import Fault
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.rows import dataset_rows, json_rows, parquet_rows, text_columns, without_nulls
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


def test_a_value_that_python_cannot_hold_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"when": pa.array([0] * 70 + [2**60, 0], pa.timestamp("us"))}), path)
    rows = dict(parquet_rows(Piece(0, str(path)), "when", []))
    assert list(rows) == list(range(72))
    assert rows[70] == Fault("a value that cannot be read: date value out of range")
    assert rows[69] == rows[71] == {"when": datetime.datetime(1970, 1, 1)}


@pytest.mark.parametrize("columns", [("text", []), (None, ["text", "more"])])
def test_a_damaged_page_is_named_by_the_first_row_that_cannot_be_read(tmp_path: Path, columns: Any) -> None:
    texts = [f"row {number} " + "abcdefgh" * (number % 7) for number in range(1500)]
    path = tmp_path / "rows.parquet"
    small = {"data_page_size": 2000, "use_dictionary": False, "write_batch_size": 20, "row_group_size": 1000}
    pq.write_table(pa.table({"text": texts, "more": texts}), path, **small)
    chunk = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    content[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(content)
    read = []
    with pytest.raises(DataError) as caught:
        for number, row in parquet_rows(Piece(0, str(path), 1, 2), *columns):
            read.append((number, row["text"]))
    assert read == [(1000 + number, text) for number, text in enumerate(texts[1000 : 1000 + len(read)])]
    assert len(read) % 20 == 0 < len(read) % 64  # up to the page, which is no whole number of batches
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}, row {1000 + len(read)}: ")
    assert problem.endswith("What follows cannot be read")


# ---- what Arrow makes of rows ----

TALKS: list[dict[str, Any]] = [
    {"messages": [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
    ], "tools": [{"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}, "required": []}}]},
    {"messages": [
        {"role": "user", "content": "1+2?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"terms": [1, None, 2]}}}]},
    ], "tools": [{"name": "add", "parameters": {"properties": {"terms": {"type": "array"}}}}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "tools": []},
]  # fmt: skip
"""Their tools and arguments share no key, so Arrow fills both with nulls. The null within a list is the data's own."""


@pytest.mark.parametrize("kept", ["parquet", "hub_parquet", "hub_jsonl"])
def test_rows_from_arrow_are_those_that_were_written(tmp_path: Path, kept: str) -> None:
    if kept == "hub_jsonl":
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TALKS))
    else:
        pq.write_table(pa.Table.from_pylist(TALKS), tmp_path / "rows.parquet")
        assert '"terms": null' in json.dumps(pq.read_table(tmp_path / "rows.parquet").to_pylist())
    if kept == "parquet":
        rows = list(parquet_rows(Piece(0, str(tmp_path / "rows.parquet")), None, ["messages", "tools"]))
    else:
        source = SourceConfig(path=str(tmp_path), format="messages")
        rows = list(dataset_rows(Piece(0, source.path), source, None))
    assert rows == list(enumerate(TALKS))


def test_a_map_of_arrow_is_an_object(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct({"name": pa.string(), "arguments": pa.map_(pa.string(), pa.string())}))
    calls = [[{"name": "weather", "arguments": [("city", "Rome")]}]]
    pq.write_table(pa.table({"calls": pa.array(calls, kind)}), tmp_path / "rows.parquet")
    (row,) = parquet_rows(Piece(0, str(tmp_path / "rows.parquet")), None, ["calls"])
    assert row == (0, {"calls": [{"name": "weather", "arguments": {"city": "Rome"}}]})


def test_nulls_are_taken_out_of_structs_alone() -> None:
    row = {"a": None, "b": [None, {"c": None, "d": [{"e": None}, 0, "", False]}]}
    assert without_nulls(row) == {"a": None, "b": [None, {"d": [{}, 0, "", False]}]}


def test_pictures_of_a_dataset_stay_files(tmp_path: Path) -> None:
    """Bytes that are no picture cannot be decoded."""
    one, many = datasets.Image(), datasets.List(datasets.Image())
    features = datasets.Features({"text": datasets.Value("string"), "image": one, "images": many})
    picture = {"bytes": b"no picture", "path": None}
    rows = {"text": ["a"], "image": [picture], "images": [[picture]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    source = SourceConfig(path=str(tmp_path), format="messages")
    ((_, row),) = dataset_rows(Piece(0, source.path), source, None)
    assert row == {"text": "a", "image": {"bytes": b"no picture"}, "images": [{"bytes": b"no picture"}]}


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
    assert caught.value.problems[0].startswith(f"{tmp_path} (split train), row 0: ")
