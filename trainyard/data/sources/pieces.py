"""The division of sources into pieces that can be read apart from each other."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.files import COMPRESSED, container, files
from trainyard.data.sources.hub import count_shards
from trainyard.errors import DataError


class Piece(NamedTuple):
    """A stretch of a source that holds whole documents."""

    source: int
    """The index of its source in data.sources."""
    file: str
    """The file; for a hub dataset its id."""
    start: int = 0
    """The first byte of a file of lines, the first row group of a parquet file, or the shard of a hub dataset."""
    stop: int | None = None
    """The exclusive end in the same unit; for a hub dataset the number of shards. None: the end of the file."""
    size: int = 0
    """Bytes on disk, for the progress bar; 0 when unknown."""


def pieces(number: int, source: SourceConfig, part_bytes: int, revision: str | None = None) -> Iterator[Piece]:
    """A source as pieces of about `part_bytes`, in order; the same pieces for the same files.

    Files of lines and parquet files are divided. A compressed file, a JSON list and a document that is a whole file are
    one piece each.

    Args:
        number: the index of the source in data.sources.
        revision: the commit of a hub dataset.

    Raises:
        DataError: a file is not there or cannot be read.
    """
    if container(source) == "hub":
        shards = count_shards(source, revision)
        yield from (Piece(number, source.path, shard, shards) for shard in range(shards))
        return
    for file in files(source):
        size, kept = file.stat().st_size, container(source, str(file))
        if size <= part_bytes or file.suffix in COMPRESSED:
            yield Piece(number, str(file), size=size)
        elif kept == "parquet":
            yield from _row_groups(number, file, part_bytes)
        elif kept == "jsonl" or (source.format == "text" and source.document != "file"):
            with file.open("rb") as stream:
                bounds = [0, *_bounds(stream, size, part_bytes, source.document == "paragraph"), size]
            yield from (Piece(number, str(file), a, b, b - a) for a, b in itertools.pairwise(bounds))
        else:
            yield Piece(number, str(file), size=size)


def _bounds(stream: IO[bytes], size: int, part_bytes: int, paragraphs: bool) -> Iterator[int]:
    """Offsets about `part_bytes` apart at which a line begins; with `paragraphs`, behind a blank line."""
    position = 0
    while position + part_bytes < size:
        stream.seek(position + part_bytes)
        _skip_line(stream)
        while paragraphs and (line := stream.readline(1 << 20)) and line.strip():
            if not line.endswith(b"\n"):
                _skip_line(stream)
        position = stream.tell()
        if position < size:
            yield position


def _skip_line(stream: IO[bytes]) -> None:
    while (line := stream.readline(1 << 20)) and not line.endswith(b"\n"):
        pass


def _row_groups(number: int, file: Path, part_bytes: int) -> Iterator[Piece]:
    """A parquet file as runs of row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(pa.OSFile(os.fsencode(file)))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a parquet file: {error}") from error
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    sizes = [sum(group.column(index).total_compressed_size for index in range(group.num_columns)) for group in groups]
    start = 0
    for group in range(len(sizes)):
        if sum(sizes[start : group + 1]) >= part_bytes or group == len(sizes) - 1:
            yield Piece(number, str(file), start, group + 1, sum(sizes[start : group + 1]))
            start = group + 1
