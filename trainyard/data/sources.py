"""Documents out of files and datasets, one after another, in a fixed order and in bounded memory."""

import glob
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from trainyard.schema import SourceConfig

FORMATS = ("text", "jsonl", "json", "parquet", "hub")
_GLOB = set("*?[")


class DataError(ValueError):
    """Bad input, named by file and line."""


def files(source: SourceConfig) -> list[Path]:
    """The files behind a source, sorted, so that the order does not depend on the file system.

    Raises:
        DataError: nothing is there, or a file cannot be opened.
    """
    path = Path(source.path).expanduser()
    if _GLOB & set(source.path):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207, it may be absolute
        found = [name for name in found if name.is_file()]
    elif path.is_dir():
        found = [name for name in sorted(path.rglob("*")) if name.is_file() and not name.name.startswith(".")]
    else:
        found = [path]
    if not found:
        raise DataError(f"{source.path}: no file matches. Check the path, and quote a glob so that the shell leaves it")
    for file in found:
        try:
            file.open("rb").close()
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}. data.sources names files that can be read") from error
    return found


def documents(source: SourceConfig) -> Iterator[str]:
    """Yields the text of every document of a source. Documents of white space alone are passed over.

    Raises:
        DataError: naming the file and the line, for input that is not what the source says it is.
    """
    for text in _hub(source) if source.format == "hub" else _from_files(source):
        if text.strip():
            yield text


def _from_files(source: SourceConfig) -> Iterator[str]:
    readers = {"text": _text, "jsonl": _jsonl, "json": _json, "parquet": _parquet}
    for file in files(source):
        try:
            yield from readers[source.format](file, source)
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}). Convert it first") from error
        except (OSError, EOFError, zlib.error) as error:  # a truncated gzip is an EOFError, a damaged one a zlib.error
            raise DataError(f"{file}: {error}") from error


def _open(file: Path) -> IO[bytes]:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _text(file: Path, source: SourceConfig) -> Iterator[str]:
    with _open(file) as stream:
        if source.document == "file":
            yield stream.read().decode("utf-8")
        else:
            for number, line in enumerate(stream, start=1):
                yield _decode(line, file, number).rstrip("\r\n")


def _jsonl(file: Path, source: SourceConfig) -> Iterator[str]:
    with _open(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    row = json.loads(_decode(line, file, number))
                except json.JSONDecodeError as error:
                    raise DataError(f"{file}:{number}: not valid JSON: {error}") from error
                yield _field(row, source.columns, f"{file}:{number}")


def _json(file: Path, source: SourceConfig) -> Iterator[str]:
    with _open(file) as stream:
        try:
            rows = json.load(stream)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise DataError(f"{file}: format json is one list of objects, this is a {type(rows).__name__}")
    for number, row in enumerate(rows):
        yield _field(row, source.columns, f"{file}, item {number}")


def _parquet(file: Path, source: SourceConfig) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _open(file) as stream:
        try:
            table = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise DataError(f"{file}: not a parquet file: {error}") from error
        number = 0
        try:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield _field(row, source.columns, f"{file}, row {number}")
                    number += 1
        except pa.ArrowException as error:
            raise DataError(f"{file}, after row {number}: {error}") from error


def _hub(source: SourceConfig) -> Iterator[str]:
    import datasets

    try:
        rows = datasets.load_dataset(source.path, source.subset, split=source.split, streaming=True)
        for number, row in enumerate(rows):
            yield _field(row, source.columns, f"{source.path}, row {number}")
    except DataError:
        raise
    except Exception as error:  # the hub's errors share no base class
        raise DataError(f"{source.path} (split {source.split}): {error}") from error


def _decode(line: bytes, file: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}:{number}: not UTF-8 ({error.reason} at byte {error.start}). Convert it first"
        ) from error


def _field(row: Any, columns: Sequence[str] | None, place: str) -> str:
    """The text of one row: the named column, else `text`, else the only column of strings."""
    if not isinstance(row, dict):
        raise DataError(f"{place}: a document is an object with a text column, this is a {type(row).__name__}")
    if columns:
        name = columns[0]
    else:
        strings = [key for key, value in row.items() if isinstance(value, str)]
        name = "text" if "text" in row else strings[0] if len(strings) == 1 else ""
    text = row.get(name)
    if not isinstance(text, str):
        wanted = f"column {name!r}" if name else "text column"
        raise DataError(
            f"{place}: no {wanted} of strings among {', '.join(map(repr, row))}. "
            f"Name it in data.sources, as columns: [<name>]"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half of a surrogate pair at character {error.start}, which is no text") from error
    return text
