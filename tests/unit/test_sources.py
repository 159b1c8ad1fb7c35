import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.data.sources import DataError, documents, files
from trainyard.schema import SourceConfig

TEXTS = ["one", "二 две", "three 🚂"]


def source(path: Path | str, form: str, **options: object) -> SourceConfig:
    return SourceConfig(path=str(path), format=form, **options)  # type: ignore[arg-type]


def write(folder: Path, form: str) -> Path:
    path = folder / f"corpus.{form}"
    if form == "text":
        path.write_text("\n".join(TEXTS) + "\n\n")
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    elif form == "json":
        path.write_text(json.dumps([{"text": text} for text in TEXTS]))
    else:
        pq.write_table(pa.table({"text": TEXTS}), path)
    return path


@pytest.mark.parametrize("form", ["text", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_documents_plain_and_gzipped(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    assert list(documents(source(path, form))) == TEXTS
    packed = tmp_path / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(documents(source(packed, form))) == TEXTS


def test_a_document_is_a_line_or_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "text")
    assert list(documents(source(path, "text", document="file"))) == [path.read_text()]


def test_globs_and_directories_are_read_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert list(documents(source(tmp_path / "*.txt", "text"))) == ["a", "b", "c"]
    assert list(documents(source(tmp_path, "text"))) == ["a", "b", "c"]
    with pytest.raises(DataError, match="no file matches"):
        files(source(tmp_path / "*.md", "text"))


def test_the_text_column_is_named_or_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 1, "body": "here"}) + "\n")
    assert list(documents(source(path, "jsonl"))) == ["here"]
    path.write_text(json.dumps({"title": "t", "body": "here"}) + "\n")
    assert list(documents(source(path, "jsonl", columns=["body"]))) == ["here"]
    with pytest.raises(DataError, match=r"rows.jsonl:1: no text column of strings among 'title', 'body'"):
        list(documents(source(path, "jsonl")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', r":2: not valid JSON"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', r":2: not UTF-8"),
        (b'{"text": 3}\n', r":1: no column 'text' of strings"),
        (b'["a"]\n', r":1: a document is an object"),
    ],
)
def test_bad_lines_are_named_by_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"bad.jsonl{message}"):
        list(documents(source(path, "jsonl")))


def test_a_truncated_gzip_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(gzip.compress(b"text " * 1000)[:-10])
    with pytest.raises(DataError, match=r"cut\.txt\.gz"):
        list(documents(source(path, "text")))


def test_a_local_dataset_directory_is_read_as_the_hub_is(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    assert list(documents(source(tmp_path, "hub"))) == TEXTS


def test_damaged_input_is_a_data_error_whatever_library_notices(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"some text that is long enough to be compressed " * 50))
    packed[20:40] = b"\x00" * 20
    (tmp_path / "damaged.txt.gz").write_bytes(bytes(packed))
    (tmp_path / "half.jsonl").write_text('{"text": "\\ud800"}')
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nothing")
    for name, form in (("damaged.txt.gz", "text"), ("half.jsonl", "jsonl"), ("no.parquet", "parquet")):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            list(documents(source(tmp_path / name, form)))
