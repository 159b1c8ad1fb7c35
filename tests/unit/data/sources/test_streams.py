"""The content of files: decompressed, as parquet, and as a JSON list that is read item by item."""

import gzip
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources import streams
from trainyard.data.sources.pieces import pieces
from trainyard.data.sources.streams import items, opened, parquet_file
from trainyard.errors import DataError


def read(content: str | bytes, max_bytes: int = 100) -> list[tuple[int, Any]]:
    raw = content if isinstance(content, bytes) else content.encode()
    return list(items("rows.json", io.BytesIO(raw), max_bytes))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_is_decompressed_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    content = b"one\ntwo\n" * 1000
    compress = {"": bytes, ".gz": gzip.compress, ".zst": lambda raw: pa.compress(raw, codec="zstd", asbytes=True)}
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress[suffix](content))
    with opened(str(path)) as (stream, raw):
        assert stream.readline() == b"one\n"
        assert stream.read() == content[4:]
        assert raw.tell() == path.stat().st_size


def test_a_parquet_file_plain_and_compressed_and_another_file(tmp_path: Path) -> None:
    plain = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a"]}), plain)
    packed = tmp_path / "rows.parquet.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [parquet_file(str(path)).read().to_pydict() for path in (plain, packed)] == [{"text": ["a"]}] * 2
    plain.write_bytes(b"text")
    with pytest.raises(DataError, match=r"rows\.parquet: not a parquet file: "):
        parquet_file(str(plain))


def test_a_parquet_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    named = Path(os.fsdecode(os.fsencode(tmp_path) + "/语料.parquet".encode("gbk")))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").rename(named)
    assert parquet_file(str(named)).read().to_pydict() == {"text": ["a"]}
    (piece,) = pieces(0, SourceConfig(path=str(tmp_path), format="parquet"), 1 << 20)
    assert piece.file == str(named)


def test_items_with_the_lines_on_which_they_begin() -> None:
    content = '\ufeff \n[ {"a": 1}, {"b":\n[2,\n"]"]}\n ,\t"三"\r\n, null,4.5 ]\n\n'
    assert read(content) == [(2, {"a": 1}), (2, {"b": [2, "]"]}), (5, "三"), (6, None), (6, 4.5)]
    assert read("[]") == []


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_items_do_not_depend_on_where_the_window_ends(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    content = '[{"text": "语言 \\" 🚂"},\n 12345678901234567890, -1.5e10,\n true, ["a", {"b": null}]]\n'
    wanted = [(1, {"text": '语言 " 🚂'}), (2, 12345678901234567890), (2, -1.5e10), (3, True), (3, ["a", {"b": None}])]
    assert read(content) == wanted
    monkeypatch.setattr(streams, "CHUNK", chunk)
    assert read(content) == wanted


BROKEN = "What follows cannot be read"
ONE_LIST = "format json is one list of objects"


@pytest.mark.parametrize(("content", "read_before", "problem"), [
    ("7", [], f":1: {ONE_LIST}, this begins with '7'; jsonl is a format"),
    ('\n{"a": 1}', [], f":2: {ONE_LIST}, this begins with an object; jsonl is a format"),
    ("[1,\n2", [(1, 1), (2, 2)], f":2: not valid JSON: the end of the list is missing. {BROKEN}"),
    ("[1,\n", [(1, 1)], f":2: not valid JSON: the list does not end. {BROKEN}"),
    ("[1\n2]", [(1, 1)], f":2: not valid JSON: a comma or the end of the list is missing. {BROKEN}"),
    ('[1,\n{"a" 2}]', [(1, 1)], f":2: not valid JSON: Expecting ':' delimiter. {BROKEN}"),
    ("[1]\n2", [(1, 1)], f":2: something follows the end of the list; {ONE_LIST}"),
    (b"[1,\n\xff]", [], ": not UTF-8 (invalid start byte) after line 1. Convert it"),
])  # fmt: skip
def test_a_broken_list_is_named_by_line_behind_its_good_items(
    content: str | bytes, read_before: list[tuple[int, Any]], problem: str
) -> None:
    found = []
    raw = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(DataError) as caught:
        for item in items("rows.json", io.BytesIO(raw), 100):
            found.append(item)
    assert (found, caught.value.problems) == (read_before, [f"rows.json{problem}"])
