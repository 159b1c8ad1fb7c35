"""The content of files: decompressed, as parquet, and as a JSON list that is read item by item."""

import codecs
import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainyard.data.sources.files import COMPRESSED
from trainyard.errors import DataError

CHUNK = 1 << 20
"""Bytes that are read at once."""


@contextlib.contextmanager
def opened(file: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file's content, decompressed by its suffix, and the raw file, whose position shows the progress."""
    with Path(file).open("rb") as raw:
        if not file.endswith(COMPRESSED):
            yield raw, raw
        elif file.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as stream:
                yield io.BufferedReader(stream, CHUNK), raw
        else:
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
                yield io.BufferedReader(stream, CHUNK), raw


def parquet_file(file: str) -> Any:
    """A pyarrow.parquet.ParquetFile; a compressed file is held in memory.

    Raises:
        DataError: it is not a parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.endswith(COMPRESSED):
            with opened(file) as (stream, _):
                return pq.ParquetFile(pa.BufferReader(stream.read()))
        return pq.ParquetFile(file, buffer_size=CHUNK, pre_buffer=False)  # otherwise a row group is held whole
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a parquet file: {error}") from error


def items(file: str, stream: IO[bytes], max_bytes: int) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list, each with the line on which it begins, counted from 1.

    The list is decoded in a window of the file, which grows until it holds an item: up to about 6 * max_bytes
    characters.

    Raises:
        DataError: the file is not one JSON list; the line is named.
    """
    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")()
    window, at, line, complete = "", 0, 1, False

    def fill() -> None:
        nonlocal window, at, complete
        block = stream.read(max(CHUNK, len(window) - at))
        complete = not block
        try:
            window, at = window[at:] + utf8.decode(block, final=complete), 0
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 ({error.reason}) after line {line}. Convert it") from error

    def skip(characters: str) -> str:
        """Passes over characters; returns the next character, empty at the end of the file."""
        nonlocal at, line
        while True:
            while at < len(window) and window[at] in characters:
                line += window[at] == "\n"
                at += 1
            if at < len(window) or complete:
                return window[at : at + 1]
            fill()

    if (first := skip(" \t\r\n")) != "[":
        kind = "an object" if first == "{" else repr(first)
        raise DataError(
            f"{file}:{line}: format json is one list of objects, this begins with {kind}; jsonl is a format"
        )
    at += 1
    found = skip(" \t\r\n")
    while found != "]":
        try:
            item, end = decoder.raw_decode(window, at)
            if end == len(window) and not complete:
                raise json.JSONDecodeError("Unterminated", window, end)
        except (ValueError, RecursionError) as error:
            where = getattr(error, "pos", at)
            unfinished = str(error).startswith("Unterminated") or where + 16 >= len(window)
            if found and unfinished and not complete and len(window) - at <= 6 * max_bytes:
                fill()
                continue
            reason = getattr(error, "msg", str(error)) if found else "the list does not end"
            bad = line + window.count("\n", at, where)
            raise DataError(f"{file}:{bad}: not valid JSON: {reason}. What follows cannot be read") from error
        yield line, item
        line += window.count("\n", at, end)
        at = end
        found = skip(" \t\r\n")
        if found == ",":
            at += 1
            found = skip(" \t\r\n")
        elif found != "]":
            wanted = "a comma or the end of the list" if found else "the end of the list"
            raise DataError(f"{file}:{line}: not valid JSON: {wanted} is missing. What follows cannot be read")
    at += 1
    if skip(" \t\r\n"):
        raise DataError(f"{file}:{line}: something follows the end of the list; format json is one list of objects")
