"""Rows of JSON lists, parquet files and datasets: each with its number, lines from 0 within the file for a list and
rows from 0 for the others.

Arrow gives all structs of a column the same fields: where a row lacks a key, its value is null. Such nulls are taken
out again, so that a row is the same from JSON Lines and from parquet.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.documents import Fault
from trainyard.data.sources.hub import hub_rows
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.streams import items, opened, parquet_file
from trainyard.errors import DataError


def json_rows(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list; Empty for a file of white space.

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
    """The rows of some row groups, as objects with some columns; a Fault for values that Python cannot hold.

    Args:
        required: a column that the file must have.
        optional: columns that are read if the file has them.

    Raises:
        DataError: the column is missing, or the file is damaged; the first row that cannot be read is named.
    """
    import pyarrow as pa

    table = parquet_file(piece.file)
    there = table.schema_arrow.names
    if required is not None and required not in there:
        raise DataError(f"{piece.file}: no column {required!r}, only {', '.join(map(repr, there))}")
    row = first = 0
    try:
        wanted = [name for name in optional if name in there] if required is None else [required]
        groups = list(range(piece.start, table.num_row_groups if piece.stop is None else piece.stop))
        row = first = sum(table.metadata.row_group(group).num_rows for group in range(piece.start))
        for size in (64, 1):  # a damaged batch is read again row by row, up to the damage
            batches = table.iter_batches(batch_size=size, row_groups=groups, columns=wanted)
            read = itertools.chain.from_iterable(map(_values, batches))
            try:
                for value in itertools.islice(read, row - first, None):
                    yield row, value
                    row += 1
                return
            except (pa.ArrowException, OSError):
                if size == 1:
                    raise
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{piece.file}, row {row}: {error}. What follows cannot be read") from error


def _values(batch: Any) -> list[Any]:
    """The rows of a batch."""
    try:
        return [without_nulls(row) for row in batch.to_pylist(maps_as_pydicts="strict")]
    except (ValueError, OverflowError, LookupError) as error:
        if batch.num_rows == 1:
            return [Fault(f"a value that cannot be read: {error}")]
        return [value for row in range(batch.num_rows) for value in _values(batch.slice(row, 1))]


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the keys of its structs, at any depth, whose value is null. Its own columns all stay."""
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


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
    read = iter(_undecoded(rows))
    for number in itertools.count():
        try:
            row = next(read)
        except StopIteration:
            return
        except Exception as error:  # the hub's errors share no base class
            raise DataError(f"{piece.file} (split {source.split}), row {number}: {error}") from error
        yield number, without_nulls(row)


def _undecoded(rows: Any) -> Any:
    """The same rows, with pictures, sounds and films as files: to decode them takes time and further packages."""
    import datasets

    def files(feature: Any) -> Any:
        if isinstance(feature, dict):
            return {name: files(inner) for name, inner in feature.items()}
        if isinstance(feature, datasets.List):
            return datasets.List(files(feature.feature), length=feature.length)
        media = isinstance(feature, (datasets.Image, datasets.Audio, datasets.Video))
        return type(feature)(decode=False) if media else feature

    stored = files(dict(rows.features or {}))
    return rows.cast(datasets.Features(stored)) if stored != dict(rows.features or {}) else rows


def _is_text(kind: Any) -> bool:
    """Is an Arrow type one of strings?"""
    name = str(getattr(kind, "value_type", kind)) if str(kind).startswith("dictionary") else str(kind)
    return name in ("string", "large_string", "string_view")
