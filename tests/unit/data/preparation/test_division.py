"""The sources of a preparation as pieces, and pieces as parts."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.data.preparation import division
from trainyard.data.preparation.request import DataRequest
from trainyard.data.sources.pieces import Piece


def sized(*sizes: int) -> list[Piece]:
    return [Piece(0, str(number), size=size) for number, size in enumerate(sizes)]


def request_for(*paths: Path, part_bytes: int | None = None, **data: object) -> DataRequest:
    sources = [SourceConfig(path=str(path), format="text") for path in paths]
    config = DataConfig(sources=sources, **data)  # type: ignore[arg-type]
    return DataRequest(paths[0].parent, "pretrain", config, None, vocab_size=300, seed=0, part_bytes=part_bytes)


@pytest.mark.parametrize(("sizes", "grouped"), [
    ((), []),
    ((4000, 5000, 6000, 9000), [[4000, 5000, 6000], [9000]]),
    ((10_000, 10_000), [[10_000], [10_000]]),
    ((9999, 10_000, 1), [[9999, 10_000], [1]]),
    ((0, 0, 5000), [[0], [0], [5000]]),
])  # fmt: skip
def test_consecutive_pieces_make_a_part_until_it_is_large_enough(sizes: list[int], grouped: list[list[int]]) -> None:
    """A piece of unknown size (0, on the hub) fills a part."""
    assert [[piece.size for piece in part] for part in division.group(iter(sized(*sizes)), 10_000)] == grouped


def test_a_part_has_a_bounded_number_of_tiny_files() -> None:
    assert [len(part) for part in division.group(iter(sized(*[1] * 25)), 10 << 10)] == [10, 10, 5]


def test_pieces_of_all_sources_in_order_and_a_reader_for_each(tmp_path: Path) -> None:
    first, second = tmp_path / "b.txt", tmp_path / "a.txt"
    first.write_text("one two\nthree four\n")
    second.write_text("five\n")
    request = request_for(first, second, part_bytes=8, max_document_mb=0.5)
    pieces = [Piece(0, str(first), 0, 19, 19), Piece(1, str(second), 0, None, 5)]
    assert list(division.all_pieces(request)) == pieces
    assert division.parts(request) == [[piece] for piece in pieces]
    assert division.parts(replace(request, part_bytes=2000)) == [[pieces[0]._replace(stop=None), pieces[1]]]
    assert division.source_bytes(request) == 24
    readers = division.readers(request)
    assert [(reader.source.path, reader.max_bytes) for reader in readers] == [
        (str(first), 500_000),
        (str(second), 500_000),
    ]


def test_parts_are_as_large_as_the_stage_or_a_large_corpus_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    with file.open("wb") as stream:
        stream.write(b"x" * 99 + b"\n")
        stream.truncate(40 << 20)
    assert division._part_bytes(request_for(file)) == 16 << 20
    assert division._part_bytes(request_for(file, part_bytes=5)) == 5
    monkeypatch.setattr(division, "MOST_PARTS", 2)
    assert division._part_bytes(request_for(file)) == 20 << 20
