"""Sources divided into pieces, which together hold every byte once."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.pieces import pieces


def source(path: Path | str, form: str, **options: object) -> SourceConfig:
    return SourceConfig(path=str(path), format=form, **options)  # type: ignore[arg-type]


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
