"""Which files stand behind a source, and how they are divided into pieces that can be read apart from each other."""

import glob
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from trainyard.config.schema import SourceConfig
from trainyard.errors import DataError

FORMATS = ("text", "jsonl", "json", "parquet", "hub")


COMPRESSED = (".gz", ".zst")


_OTHER_COMPRESSION = (".bz2", ".xz", ".zip", ".7z", ".lz4", ".br")


_GLOB = set("*?[")


_MOST_SHARDS = 1000
"""A hub dataset is divided into at most so many pieces, each of which becomes a part."""


class Piece(NamedTuple):
    """A stretch of a source that holds whole documents."""

    source: int
    """Its number among data.sources."""
    file: str
    start: int = 0
    """First byte of a file of lines, first row group of a parquet file, number of the shard of a hub dataset."""
    stop: int | None = None
    """Where it ends, in the same unit, exclusive (of a hub dataset: how many shards there are). None: the whole."""
    size: int = 0
    """Bytes on disk, for the progress bar; 0 when unknown."""


def files(source: SourceConfig) -> list[Path]:
    """The files behind a source, sorted, so that the order does not depend on the file system.

    Raises:
        DataError: nothing is there, or files cannot be opened (the first ten).
    """
    try:
        path = Path(source.path).expanduser()
        if path.is_dir():
            found = _walk(path)
        elif _GLOB & set(source.path) and not path.exists():
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207, it may be absolute
            found = [file for file in map(Path, sorted(names)) if not file.is_dir()]
        else:
            found = [path]
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a path that cannot be, a user that is not
        raise DataError(f"{source.path}: {error}. data.sources names files that can be read") from error
    if not found:
        raise DataError(f"{source.path}: no file matches. Check the path, and quote a glob so that the shell leaves it")
    problems = [problem for file in found if (problem := _unreadable(file))]
    if problems:
        raise DataError(*problems[:10])
    once: dict[str, Path] = {}
    for file in found:  # ** may come to one by several links
        once.setdefault(os.path.realpath(file), file)
    return list(once.values())


def _walk(directory: Path) -> list[Path]:
    """All files below a directory, hidden ones and those in hidden directories left out."""

    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _unreadable(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in _OTHER_COMPRESSION or (suffix in COMPRESSED and file.suffix not in COMPRESSED):
        return f"{file}: compressed as {file.suffix}; {' and '.join(COMPRESSED)} are read, so compress it anew"
    if os.access(file, os.R_OK, effective_ids=True) and file.is_file():
        return None
    try:
        file.open("rb").close()
    except OSError as error:
        return f"{file}: {error.strerror}. data.sources names files that can be read"
    return f"{file}: not a regular file. data.sources names files that can be read more than once"


def is_remote(source: SourceConfig) -> bool:
    return container(source) == "hub" and not Path(source.path).expanduser().exists()


def container(source: SourceConfig, file: str = "") -> str:
    """How the rows of a source, or of one file of it, are kept: one of FORMATS.

    Formats of conversations say what is in a row; what a file is, its name says: .json, .parquet, else lines of JSON. A
    path that is neither there nor ends like a file is an id of the hub.
    """
    if source.format in FORMATS:
        return source.format
    if source.format == "docstrings":
        return "text"
    path = Path(file or source.path).expanduser()
    suffixes = [suffix for suffix in path.suffixes if suffix not in COMPRESSED]
    if not file and not suffixes and not _GLOB & set(source.path) and not path.exists():
        return "hub"
    return {".json": "json", ".parquet": "parquet"}.get(suffixes[-1] if suffixes else "", "jsonl")


def pieces(number: int, source: SourceConfig, part_bytes: int, revision: str | None = None) -> Iterator[Piece]:
    """A source as pieces of about `part_bytes`, in order; the same ones for the same files.

    Lines and row groups are split apart; a compressed file, a JSON list and a document that is a file are not.
    """
    if container(source) == "hub":
        shards = _count_shards(source, revision)
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
                cuts = [0, *_cuts(stream, size, part_bytes, source.document == "paragraph"), size]
            yield from (Piece(number, str(file), a, b, b - a) for a, b in itertools.pairwise(cuts))
        else:
            yield Piece(number, str(file), size=size)


def _cuts(stream: IO[bytes], size: int, part_bytes: int, paragraphs: bool) -> Iterator[int]:
    """Offsets about `part_bytes` apart at which a line begins, or behind which no paragraph goes on."""
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a parquet file: {error}") from error
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    sizes = [sum(group.column(index).total_compressed_size for index in range(group.num_columns)) for group in groups]
    start = 0
    for group in range(len(sizes)):
        if sum(sizes[start : group + 1]) >= part_bytes or group == len(sizes) - 1:
            yield Piece(number, str(file), start, group + 1, sum(sizes[start : group + 1]))
            start = group + 1


def hub_rows(source: SourceConfig, revision: str | None = None) -> object:
    """A dataset of the hub, or a local one that `datasets` reads, streamed.

    Raises:
        DataError: with the reason that `datasets` gives.
    """
    import datasets

    try:
        return datasets.load_dataset(source.path, source.subset, split=source.split, revision=revision, streaming=True)
    except Exception as error:  # the hub's errors share no base class
        raise DataError(f"{source.path} (split {source.split}): {error}") from error


def _count_shards(source: SourceConfig, revision: str | None) -> int:
    return min(_MOST_SHARDS, int(getattr(hub_rows(source, revision), "num_shards", 1) or 1))
