"""Every format gives its documents, and a bad document is named by file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.documents import Empty
from trainyard.data.sources.pieces import pieces
from trainyard.data.sources.reader import Reader, Rejected
from trainyard.errors import DataError

EMPTY = "(empty)"
TEXTS = ["one", "二 две", "three 🚂", "a long one " * 40]


def read(path: Path, form: str, *, part_bytes: int = 1 << 20, limit: int = 10_000, **options: object) -> list[Any]:
    """The documents of a source in order; a rejected one as `! place: reason`, an empty one as EMPTY."""
    source = SourceConfig(path=str(path), format=form, **options)  # type: ignore[arg-type]
    reader = Reader(source, limit)
    found = [document for piece in pieces(0, source, part_bytes) for _, document in reader(piece)]
    shown = {Rejected: "! {}".format, Empty: lambda document: EMPTY}
    return [shown.get(type(document), lambda document: document)(document) for document in found]


def write(folder: Path, form: str) -> Path:
    path = folder / f"corpus.{form}"
    if form == "text":
        path.write_text("\n".join(TEXTS) + "\n\n")
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + "\n")
    elif form == "json":
        path.write_text(json.dumps([{"text": text} for text in TEXTS]))
    else:
        pq.write_table(pa.table({"text": TEXTS}), path, row_group_size=1)
    return path


def zstd(content: bytes) -> bytes:
    """Two frames, as parallel compressors write them."""
    half = len(content) // 2
    return b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in (content[:half], content[half:]))


@pytest.mark.parametrize("form", ["text", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_documents_plain_and_compressed(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    assert read(path, form) == TEXTS
    assert read(path, form, part_bytes=1) == TEXTS  # in as many pieces as there can be
    for suffix, compress in ((".gz", gzip.compress), (".zst", zstd)):
        packed = tmp_path / f"{path.name}{suffix}"
        packed.write_bytes(compress(path.read_bytes()))
        assert read(packed, form) == TEXTS


def test_a_dataset_on_this_machine_is_read_shard_by_shard(tmp_path: Path) -> None:
    for number, text in enumerate(TEXTS):
        datasets.Dataset.from_dict({"text": [text]}).to_parquet(tmp_path / f"train-{number}.parquet")
    source = SourceConfig(path=str(tmp_path), format="hub")
    assert len(list(pieces(0, source, 1))) == len(TEXTS)
    assert read(tmp_path, "hub") == TEXTS


def test_a_text_document_is_a_line_a_paragraph_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    content = "\ufeffone\nmore\n\n \ntwo\r\nmore\n"
    path.write_text(content, encoding="utf-8", newline="")
    assert read(path, "text") == ["one", "more", "two", "more"]
    for part_bytes in (1, 1 << 20):
        assert read(path, "text", document="paragraph", part_bytes=part_bytes) == ["one\nmore", "two\r\nmore"]
    assert read(path, "text", document="file") == [content.removeprefix("\ufeff")]


def test_the_text_column_is_named_or_found_once_for_the_source(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "body": "here"}\n{"id": "b"}\n')
    assert read(path, "jsonl") == ["here", "! " + f"{path}:2: no column 'body', only 'id'"]
    path.write_text('{"id": "a"}\n{"text": "there", "id": "b"}\n')
    assert read(path, "jsonl") == [f"! {path}:1: no column 'text', only 'id'", "there"]
    path.write_text('{"title": "t", "body": "here"}\n')
    assert read(path, "jsonl", columns=["body"]) == ["here"]
    with pytest.raises(DataError, match=r"no text column of strings among 'title', 'body'. Name it"):
        read(path, "jsonl")


BAD_LINES = [
    (b'{"text": ', "not valid JSON"),
    (b'{"text": "\xff"}', "not UTF-8 (invalid start byte at byte 10)"),
    (b'{"text": 3}', "column 'text' must hold text, this is int '3'"),
    (b'{"text": null}', "column 'text' must hold text, this is null"),
    (b'{"other": "x"}', "no column 'text', only 'other'"),
    (b'["a"]', "a document is an object with a text column, this is list"),
    (b'{"text": "\\ud800"}', "half of a surrogate pair"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"text": "' + b"x" * 300_000 + b'"}', "a document of 0.3 MB is longer than data.max_document_mb=0.2"),
]


@pytest.mark.parametrize("part_bytes", [1, 1 << 20])
@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named_and_those_around_it_are_read(
    tmp_path: Path, line: bytes, message: str, part_bytes: int
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + line + b'\n{"text": "b"}\n')
    before, bad, after = read(path, "jsonl", part_bytes=part_bytes, limit=200_000)
    assert (before, after) == ("a", "b")
    assert bad.startswith(f"! {path}:3: {message}")


def test_a_bad_line_keeps_how_it_begins(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "\xe8\xaf\xad" 1}\n')
    source = SourceConfig(path=str(tmp_path / "bad.jsonl"), format="jsonl")
    ((_, bad),) = Reader(source, 1000)(next(pieces(0, source, 1000)))
    assert isinstance(bad, Rejected)
    assert (bad.number, bad.unit, bad.text) == (1, "line", '{"text": "语" 1}')


def test_bad_text_files_and_paragraphs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"one\n\ntwo\n\xff\xfe\nmore\n\nthree\n\n" + b"long\n" * 1000)
    one, bad, three, long = read(path, "text", document="paragraph", limit=2000)
    assert (one, three) == ("one", "three")
    assert bad == f"! {path}:4: not UTF-8 (invalid start byte at byte 0); convert the file"
    assert long.startswith(f"! {path}:9: a document of 0.0 MB is longer")
    assert read(path, "text", document="file", limit=9000) == [
        f"! {path}: not UTF-8 (invalid start byte at byte 9); convert the file"
    ]
    assert read(path, "text", document="file", limit=100)[0].startswith(f"! {path}: a document of 0.0 MB is longer")


@pytest.mark.parametrize("form", ["text", "jsonl", "json", "messages"])
def test_an_empty_file_is_an_empty_document(tmp_path: Path, form: str) -> None:
    path = tmp_path / "empty.json"
    path.touch()
    assert read(path, form) == [EMPTY]
    path.write_text("\n \n")
    assert read(path, form) == ([] if form in ("text", "jsonl") else [EMPTY])
    if form == "text":
        assert read(path, form, document="file") == [EMPTY]


def test_an_empty_file_is_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(DataError, match="empty: not a parquet file"):
        read(path, "parquet")


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "hub", "conversations", "conversations.parquet"])
def test_documents_without_text_are_empty_wherever_they_come_from(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"rows.{form.replace('hub', 'parquet').rpartition('.')[2]}"
    if form.startswith("conversations"):
        said = [("Hi", "Hello"), ("", " \n"), ("\u3000", ""), ("", "Hello again")]
        rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in said]
        rows.insert(1, {"messages": []})
    else:
        rows = [{"text": text} for text in ("Hi", "", " \t\n", "\u3000", "Hello")]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if form == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    kind = "messages" if form.startswith("conversations") else form
    first, *empty, last = read(tmp_path if form == "hub" else path, kind)
    assert empty == [EMPTY] * 3
    assert EMPTY not in (first, last)


def test_rows_of_parquet_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", None, "", "b"]}), path, row_group_size=1)
    assert read(path, "parquet", part_bytes=1) == [
        "a", f"! {path}, row 1: column 'text' must hold text, this is null", EMPTY, "b",
    ]  # fmt: skip
    pq.write_table(pa.table({"text": [1]}), path)
    assert read(path, "parquet") == [f"! {path}, row 0: column 'text' must hold text, this is int '1'"]
    with pytest.raises(DataError, match="no column 'body', only 'text'"):
        read(path, "parquet", columns=["body"])


def test_items_of_a_json_list_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n {"text": "a"},\n {"text": 3},\n\n {"text":\n "b"}, 17]\n')
    assert read(path, "json") == [
        "a", f"! {path}:3: column 'text' must hold text, this is int '3'", "b",
        f"! {path}:6: a document is an object with a text column, this is int '17'",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".txt"])
@pytest.mark.parametrize("compress", [None, gzip.compress, zstd])
@pytest.mark.parametrize("form", ["json", "jsonl", "alpaca"])
def test_json_is_read_as_what_it_is_whatever_its_name(tmp_path: Path, suffix: str, compress: Any, form: str) -> None:
    rows = [{"text": text, "instruction": f"say {text}", "output": text} for text in TEXTS]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    contents = [
        lines,
        "\n" + lines,
        "\ufeff" + lines,
        json.dumps(rows),
        json.dumps(rows, indent=1),
        json.dumps(rows[:1]),
    ]
    contents += [json.dumps(rows[0])]
    ending = {None: "", gzip.compress: ".gz", zstd: ".zst"}[compress]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}{suffix}{ending}"
        path.write_bytes(compress(content.encode()) if compress else content.encode())
        for part_bytes in (1, 1 << 20):
            found = read(path, form, part_bytes=part_bytes)
            said = [each.messages[-1]["content"] for each in found] if form == "alpaca" else found
            assert said == (TEXTS if number < 5 else TEXTS[:1])


def test_bad_json_lines_in_a_json_file_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"instruction": "a", "output": "b"}\n\n{"instruction": 7, "output": "b"}\n')
    assert read(path, "alpaca")[1:] == [f"! {path}:3: instruction: must be text, this is int '7'"]


def test_a_json_list_larger_than_the_window_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    texts = [f"{number} " + "文" * (number % 50_000) for number in range(0, 600_000, 7_001)]
    path.write_text(json.dumps([{"text": text} for text in texts], indent=1, ensure_ascii=False))
    assert path.stat().st_size > 3 << 20
    assert read(path, "json", limit=1 << 20) == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"text": "a"},\n{"text" "b"}, {"text": "c"}]', r":2: not valid JSON"),
        (b'[{"text": "a"},\n{"text": "b"}', r":2: not valid JSON: the end of the list is missing"),
        (b'[{"text": "a"},\n{"text": "b', r":2: not valid JSON: Unterminated string"),
        (b'[{"text": "a"}]\n[{"text": "b"}]', r":2: something follows the end of the list"),
        (b'[{"text": "a"}\n{"text": "b"}]', r":2: not valid JSON: a comma or the end of the list is missing"),
        (b'[{"text": "a"},,{"text": "b"}]', r":1: not valid JSON"),
        (b'[{"n": ' + b"7" * 5000 + b"}]", r":1: not valid JSON"),
        (b'{"text":\n "a"}', r":1: format json is one list of objects, this begins with an object"),
        (b'[{"text": "\xff"}]', r"not UTF-8"),
    ],
)
def test_a_broken_json_list_ends_the_reading(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path, "json")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_truncated_or_damaged_archive_ends_the_reading(tmp_path: Path, suffix: str, compress: object) -> None:
    content = compress("".join(f"line {number} of it\n" for number in range(50_000)).encode())  # type: ignore[operator]
    path = tmp_path / f"corpus.txt{suffix}"
    for broken in (content[: len(content) // 3], content[:-3], b"no archive at all", content[:20] + content[9000:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=f"corpus.txt{suffix}.*What follows cannot be read"):
            read(path, "text")


def test_a_line_of_sixty_megabytes_is_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "' + b"x" * 60_000_000 + b'"}\n{"text": "b"}\n')
    first, bad, last = read(path, "jsonl", limit=50_000_000)
    assert (first, last) == ("a", "b")
    assert bad.startswith(f"! {path}:2: a document of 60.0 MB is longer than data.max_document_mb=50")
    assert len(read(path, "jsonl", limit=70_000_000)[1]) == 60_000_000
