"""The content of files: decompressed, as parquet, and as a JSON list that is read item by item."""

import codecs
import contextlib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainyard.data.sources.documents import Empty
from trainyard.errors import DataError

COMPRESSED = (".gz", ".zst")
"""Suffixes of compressed files that are read."""

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


def json_kind(file: str) -> str | None:
    """json for a file that holds a JSON list, jsonl for JSON lines; None if its beginning shows neither."""
    try:
        with opened(file) as (stream, _):
            head = stream.read(CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
    except (OSError, EOFError, ValueError, zlib.error):  # named where it is read
        return None
    if head.startswith(b"["):
        return "json"
    line, _, rest = head.partition(b"\n")
    if not line.startswith(b"{"):
        return None
    try:
        json.loads(line)
    except ValueError:  # an object over several lines, or longer than the beginning
        return None if rest else "jsonl"
    return "jsonl"


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
        raw = pa.OSFile(os.fsencode(file))  # by a str it opens no file whose name is not UTF-8
        return pq.ParquetFile(raw, buffer_size=CHUNK, pre_buffer=False)  # otherwise a row group is held whole
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a parquet file: {error}") from error


class _Window:
    """The part of a text file in UTF-8 that is being decoded.

    Attributes:
        text: the part.
        at: the position in it up to which it is done.
        line: the line of that position, from 1.
        complete: does it reach the end of the file?
    """

    def __init__(self, file: str, stream: IO[bytes]):
        self._file, self._stream = file, stream
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.line, self.complete = "", 0, 1, False

    def fill(self) -> None:
        """Drops the text that is done, and reads on until the rest has at least doubled.

        Raises:
            DataError: the file is not UTF-8.
        """
        block = self._stream.read(max(CHUNK, len(self.text) - self.at))
        self.complete = not block
        try:
            self.text, self.at = self.text[self.at :] + self._utf8.decode(block, final=self.complete), 0
        except UnicodeDecodeError as error:
            raise DataError(f"{self._file}: not UTF-8 ({error.reason}) after line {self.line}. Convert it") from error

    def skip(self) -> str:
        """Passes over white space; returns the next character, empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.line += self.text[self.at] == "\n"
                self.at += 1
            if self.at < len(self.text) or self.complete:
                return self.text[self.at : self.at + 1]
            self.fill()

    def pass_over(self, end: int) -> None:
        """Marks the text up to a position as done."""
        self.line += self.text.count("\n", self.at, end)
        self.at = end


def items(file: str, stream: IO[bytes], max_bytes: int) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list, each with the line on which it begins, counted from 1; Empty for white space alone.

    The list is decoded in a window of the file, which grows until it holds an item: up to about 6 * max_bytes
    characters.

    Raises:
        DataError: the file is not one JSON list; the line is named.
    """
    decoder, window = json.JSONDecoder(), _Window(file, stream)
    if not (first := window.skip()):
        yield window.line, Empty()
        return
    if first != "[":
        kind = "an object" if first == "{" else repr(first)
        raise DataError(
            f"{file}:{window.line}: format json is one list of objects, this begins with {kind}; jsonl is a format"
        )
    window.at += 1
    found = window.skip()
    while found != "]":
        try:
            item, end = decoder.raw_decode(window.text, window.at)
            if end == len(window.text) and not window.complete:
                raise json.JSONDecodeError("Unterminated", window.text, end)
        except (ValueError, RecursionError) as error:
            where = getattr(error, "pos", window.at)
            unfinished = str(error).startswith("Unterminated") or where + 16 >= len(window.text)
            if found and unfinished and not window.complete and len(window.text) - window.at <= 6 * max_bytes:
                window.fill()
                continue
            reason = getattr(error, "msg", str(error)) if found else "the list does not end"
            bad = window.line + window.text.count("\n", window.at, where)
            raise DataError(f"{file}:{bad}: not valid JSON: {reason}. What follows cannot be read") from error
        yield window.line, item
        window.pass_over(end)
        found = window.skip()
        if found == ",":
            window.at += 1
            found = window.skip()
        elif found != "]":
            wanted = "a comma or the end of the list" if found else "the end of the list"
            raise DataError(f"{file}:{window.line}: not valid JSON: {wanted} is missing. What follows cannot be read")
    window.at += 1
    if window.skip():
        raise DataError(
            f"{file}:{window.line}: something follows the end of the list; format json is one list of objects"
        )
