"""Rows of JSON lists, parquet files and datasets: each with its number, lines from 0 within the file for a list and
rows from 0 for the others.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.hub import hub_rows
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.streams import items, opened, parquet_file
from trainyard.errors import DataError


def json_rows(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list.

    Args:
        progress: is told the bytes on disk that were read.

    Raises:
        DataError: the list is broken.
    """
    with opened(piece.file) as (stream, raw):
        for line, item in items(piece.file, stream, max_bytes):
            progress(raw.tell())
            yield line - 1, item


def parquet_rows(piece: Piece, required: str | None, optional: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The rows of some row groups, as objects with some columns.

    Args:
        required: a column that the file must have.
        optional: columns that are read if the file has them.

    Raises:
        DataError: the column is missing, or the file is damaged.
    """
    import pyarrow as pa

    row = 0
    try:
        table = parquet_file(piece.file)
        there = table.schema_arrow.names
        if required is not None and required not in there:
            raise DataError(f"{piece.file}: no column {required!r}, only {', '.join(map(repr, there))}")
        wanted = [name for name in optional if name in there] if required is None else [required]
        groups = list(range(piece.start, table.num_row_groups if piece.stop is None else piece.stop))
        row = sum(table.metadata.row_group(group).num_rows for group in range(piece.start))
        for batch in table.iter_batches(batch_size=64, row_groups=groups, columns=wanted):
            for value in batch.to_pylist():
                yield row, value
                row += 1
    except (pa.ArrowException, ValueError, OverflowError, LookupError) as error:  # of values Python cannot hold too
        if isinstance(error, DataError):
            raise
        raise DataError(f"{piece.file}, after row {row}: {error}. What follows cannot be read") from error


def text_columns(file: str) -> dict[str, str | None]:
    """The columns of a parquet file as a row: empty strings for columns of strings, None for the others."""
    schema = parquet_file(file).schema_arrow
    return {field.name: "" if _is_text(field.type) else None for field in schema}


def dataset_rows(piece: Piece, source: SourceConfig, revision: str | None) -> Iterator[tuple[int, Any]]:
    """The rows of one shard of a dataset.

    Raises:
        DataError: the dataset cannot be read, or not to its end.
    """
    rows: Any = hub_rows(source, revision)
    if piece.stop and piece.stop > 1:
        rows = rows.shard(num_shards=piece.stop, index=piece.start)
    numbered = enumerate(rows)
    while True:
        try:
            number, row = next(numbered)
        except StopIteration:
            return
        except Exception as error:  # the hub's errors share no base class
            raise DataError(f"{piece.file} (split {source.split}): {error}") from error
        yield number, row


def _is_text(kind: Any) -> bool:
    """Is an Arrow type one of strings?"""
    name = str(getattr(kind, "value_type", kind)) if str(kind).startswith("dictionary") else str(kind)
    return name in ("string", "large_string", "string_view")
