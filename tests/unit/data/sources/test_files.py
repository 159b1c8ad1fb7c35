import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.files import files, pieces
from trainyard.errors import DataError


def source(path: Path | str, form: str, **options: object) -> SourceConfig:
    return SourceConfig(path=str(path), format=form, **options)  # type: ignore[arg-type]


def test_globs_and_directories_are_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "in/c"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / ".hidden.txt").write_text("x")
    assert files(source(tmp_path / "*.txt", "text")) == [tmp_path / "a.txt", tmp_path / "b.txt"]
    everything = [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "in" / "c.txt"]
    assert files(source(tmp_path, "text")) == everything
    assert files(source(tmp_path / "**" / "*.txt", "text")) == everything


def test_a_directory_is_read_without_what_is_hidden_and_no_file_twice(tmp_path: Path) -> None:
    for name in (".git/HEAD", "in/.cache/x", "in/a.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert files(source(tmp_path, "text")) == [tmp_path / "b.txt", tmp_path / "in" / "a.txt"]
    found = files(source(tmp_path / "**" / "*.txt", "text"))
    assert sorted(file.resolve() for file in found) == [tmp_path / "b.txt", tmp_path / "in" / "a.txt"]


def test_a_name_that_looks_like_a_glob_is_a_name_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "data[1] v2.txt").write_text("x")
    assert files(source(tmp_path / "data[1] v2.txt", "text")) == [tmp_path / "data[1] v2.txt"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "packed.txt.bz2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"gone.txt: No such file") as caught:
        files(source(tmp_path, "text"))
    assert "packed.txt.bz2: compressed as .bz2; .gz and .zst are read" in str(caught.value)
    with pytest.raises(DataError, match=r"data\.sources names files"):
        files(source("~nosuchuser/x", "text"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        files(source(tmp_path / "*.md", "text"))
    with pytest.raises(DataError, match=r"gone.txt: No such file"):
        files(source(tmp_path / "gone.txt", "text"))


def test_files_that_may_not_be_read_are_named_the_first_ten(unprivileged: Path) -> None:
    for number in range(12):
        (unprivileged / f"{number:02d}.txt").write_text("x")
        (unprivileged / f"{number:02d}.txt").chmod(0)
    with pytest.raises(DataError) as caught:
        files(source(unprivileged / "*.txt", "text"))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "Permission denied. data.sources names files that can be read"
    ] * 10


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user without privileges, who the test runs as if it was begun by root."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("part_bytes", [1, 7, 40, 1000])
def test_lines_are_divided_between_lines(tmp_path: Path, part_bytes: int) -> None:
    path = tmp_path / "lines.txt"
    content = b"one\ntwo two two two\n\nthree\r\n" + b"x" * 50 + b"\nlast"
    path.write_bytes(content)
    cut = list(pieces(0, source(path, "text"), part_bytes))
    assert len(cut) == {1: 5, 7: 4, 40: 2, 1000: 1}[part_bytes]
    if len(cut) > 1:
        parts = [content[piece.start : piece.stop] for piece in cut]
        assert b"".join(parts) == content
        assert all(part.endswith(b"\n") for part in parts[:-1])
    assert sum(piece.size for piece in cut) == len(content)


@pytest.mark.parametrize("part_bytes", [1, 10, 30])
def test_paragraphs_are_divided_between_paragraphs(tmp_path: Path, part_bytes: int) -> None:
    path = tmp_path / "book.txt"
    content = b"one\nmore\n\ntwo\nmore\nand more\n \n\nthree\n\n\nfour"
    path.write_bytes(content)
    cut = list(pieces(0, source(path, "text", document="paragraph"), part_bytes))
    assert len(cut) > 1
    parts = [content[piece.start : piece.stop] for piece in cut]
    assert b"".join(parts) == content
    assert all(part.endswith((b"\n\n", b"\n \n")) for part in parts[:-1])


def test_what_cannot_be_divided_is_one_piece(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.json", "a.txt"):
        (tmp_path / name).write_bytes(b"x\n" * 100)
    assert len(list(pieces(0, source(tmp_path / "a.jsonl.*", "jsonl"), 10))) == 2
    assert len(list(pieces(0, source(tmp_path / "a.json", "json"), 10))) == 1
    assert len(list(pieces(0, source(tmp_path / "a.txt", "text", document="file"), 10))) == 1
    assert len(list(pieces(0, source(tmp_path / "a.txt", "text"), 10))) > 1


def test_a_parquet_file_is_divided_by_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(100)]}), path, row_group_size=10)
    cut = list(pieces(0, source(path, "parquet"), 300))
    assert 1 < len(cut) <= 10
    assert [piece.start for piece in cut[1:]] == [piece.stop for piece in cut[:-1]]
    assert (cut[0].start, cut[-1].stop) == (0, 10)
