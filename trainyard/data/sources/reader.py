"""Documents out of pieces of sources, one after another, in bounded memory; what is none is named, not passed on.

What a reader meets is of two kinds. A single document that is no good (malformed, not UTF-8, without text, too long) is
yielded as a `Rejected`, and reading goes on behind it. Damage that hides an unknown number of documents (a truncated
gzip, a broken JSON list) raises a DataError.
"""

import codecs
import contextlib
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainyard.config.schema import SourceConfig
from trainyard.data.conversations.formats import COLUMNS
from trainyard.data.sources.docstrings import conversations
from trainyard.data.sources.documents import (
    Document,
    Fault,
    as_conversation,
    as_text,
    beginning,
    find_text_column,
    too_long,
)
from trainyard.data.sources.files import Piece, container, files, hub_rows
from trainyard.data.sources.streams import CHUNK, items, opened, parquet_file
from trainyard.errors import DataError

_BOM = codecs.BOM_UTF8


class Rejected(NamedTuple):
    """A document that is left out."""

    file: str
    number: int | None
    """Its line, from 1; of parquet and hub its row, from 0. None: the file itself."""
    unit: str
    """line or row."""
    reason: str
    text: str
    """How it begins."""

    def __str__(self) -> str:
        place = "" if self.number is None else f":{self.number}" if self.unit == "line" else f", row {self.number}"
        return f"{self.file}{place}: {self.reason}"


_Found = Iterator[tuple[int | None, Any]]
"""Numbers (of lines within the piece, or of rows) with a text, a row that has a column of text, or a Fault."""


class Reader:
    """Reads the pieces of one source.

    Attributes:
        column: the column that holds the text, named in the source or found in its first rows.
        position: bytes on disk that were read of the current piece.
    """

    def __init__(self, source: SourceConfig, max_bytes: int, revision: str | None = None):
        """`max_bytes` is the longest line, file or text that counts as a document."""
        self.source, self.max_bytes, self.revision = source, max_bytes, revision
        self.position = 0
        self.column: str | None = None
        self.fields: dict[str, str] = {}
        if source.format in COLUMNS:
            self.fields = {name: name for name in COLUMNS[source.format]} | dict(source.columns or {})
        elif source.format not in ("text", "docstrings"):
            self.column = source.columns[0] if source.columns else find_text_column(source.path, self._first_rows())

    def __call__(self, piece: Piece) -> Iterator[tuple[int | None, Document | Rejected]]:
        """The documents of a piece, in order, each with its number in the piece, which `rejected` asks for.

        Raises:
            DataError: the rest of the piece cannot be read.
        """
        self.position = 0
        try:
            document: Document | Fault
            for number, value in self._found(piece):
                if self.fields:
                    document = as_conversation(value, self.source.format, self.fields, self.max_bytes)
                else:
                    document = as_text(value, self.column, self.max_bytes)
                if isinstance(document, Fault):
                    yield number, self.rejected(piece, number, document.reason, document.text or value)
                else:
                    yield number, document
        except (OSError, EOFError, zlib.error) as error:  # a truncated gzip is an EOFError, a damaged one a zlib.error
            raise DataError(f"{piece.file}: {error}. What follows cannot be read") from error

    def rejected(self, piece: Piece, number: int | None, reason: str, value: Any) -> Rejected:
        """Names a document that was found at `number` of a piece."""
        unit = "row" if container(self.source, piece.file) in ("parquet", "hub") else "line"
        if number is not None and unit == "line":
            number = _line_number(piece, number)
        return Rejected(piece.file, number, unit, reason, beginning(value))

    def _found(self, piece: Piece) -> _Found:
        kept = container(self.source, piece.file)
        if kept == "hub":
            return self._hub(piece)
        if Path(piece.file).stat().st_size == 0:
            return iter([(None, Fault("the file is empty; remove it, or leave it out of data.sources"))])
        if self.source.format == "docstrings":
            return self._docstrings(piece)
        if kept == "text":
            by_document = {"line": self._text_lines, "paragraph": self._paragraphs, "file": self._text_file}
            return by_document[self.source.document](piece)
        return {"jsonl": self._jsonl, "json": self._json, "parquet": self._parquet}[kept](piece)

    # ---- files of lines ----

    def _lines(self, piece: Piece) -> Iterator[tuple[int, str | Fault]]:
        """Lines with their numbers within the piece, from 0."""
        with opened(piece.file) as (stream, raw):
            if piece.start:
                stream.seek(piece.start)
            number, read = 0, piece.start
            while (piece.stop is None or read < piece.stop) and (line := stream.readline(self.max_bytes + 1)):
                size = len(line)
                if size > self.max_bytes:
                    begin = line[:200]
                    while not line.endswith(b"\n") and (line := stream.readline(CHUNK)):
                        size += len(line)
                    yield number, Fault(too_long(size, self.max_bytes), begin.decode("utf-8", "replace"))
                else:
                    yield number, _decoded(line.removeprefix(_BOM) if read == 0 else line)
                read += size
                number += 1
                self.position = read - piece.start if stream is raw else raw.tell()

    def _text_lines(self, piece: Piece) -> _Found:
        for number, line in self._lines(piece):
            if isinstance(line, Fault):
                yield number, line
            elif not line.isspace():  # a blank line is no document
                yield number, line.rstrip("\r\n")

    def _paragraphs(self, piece: Piece) -> _Found:
        """Runs of lines that are not blank; one with a faulty line is left out whole."""
        lines: list[str] = []
        fault: Fault | None = None
        first = size = 0
        for number, line in itertools.chain(self._lines(piece), [(-1, "\n")]):
            if isinstance(line, str) and line.isspace():
                if fault or lines:
                    yield first, fault or "".join(lines).rstrip("\r\n")
                lines, fault, size = [], None, 0
                continue
            first = number if not lines and fault is None else first
            if fault is not None:
                continue
            if isinstance(line, Fault):
                fault, first = line, number
                continue
            size += len(line)
            lines.append(line)
            if size > self.max_bytes:
                fault, lines = Fault(too_long(size, self.max_bytes), lines[0]), []

    def _text_file(self, piece: Piece) -> _Found:
        with opened(piece.file) as (stream, _):
            content = stream.read(self.max_bytes + 1)
            if len(content) <= self.max_bytes:
                yield None, _decoded(content.removeprefix(_BOM))
                return
            size = len(content) + sum(len(block) for block in iter(lambda: stream.read(CHUNK), b""))
            yield None, Fault(too_long(size, self.max_bytes), content[:200].decode("utf-8", "replace"))

    def _docstrings(self, piece: Piece) -> _Found:
        for _, source in self._text_file(piece):
            if isinstance(source, Fault):
                yield None, source
                continue
            try:
                yield from ((line - 1, made) for line, made in conversations(_module(piece.file), source))
            except (SyntaxError, ValueError, RecursionError) as error:
                yield None, Fault(f"not Python source: {error}")

    def _jsonl(self, piece: Piece) -> _Found:
        for number, line in self._lines(piece):
            if isinstance(line, Fault):
                yield number, line
            elif not line.isspace():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, Fault(f"not valid JSON: {error}", line)

    # ---- the other formats ----

    def _json(self, piece: Piece) -> _Found:
        with opened(piece.file) as (stream, raw):
            for line, item in items(piece.file, stream, self.max_bytes):
                self.position = raw.tell()
                yield line - 1, item

    def _parquet(self, piece: Piece) -> _Found:
        import pyarrow as pa

        row = 0
        try:
            table = parquet_file(piece.file)
            there = table.schema_arrow.names
            wanted = [name for name in self.fields.values() if name in there] if self.fields else [self.column]
            if not set(wanted) <= set(there):
                raise DataError(f"{piece.file}: no column {self.column!r}, only {', '.join(map(repr, there))}")
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

    def _hub(self, piece: Piece) -> _Found:
        rows: Any = hub_rows(self.source, self.revision)
        if piece.stop and piece.stop > 1:
            rows = rows.shard(num_shards=piece.stop, index=piece.start)
        numbered = enumerate(rows)
        while True:
            try:
                number, row = next(numbered)
            except StopIteration:
                return
            except Exception as error:  # the hub's errors share no base class
                raise DataError(f"{piece.file} (split {self.source.split}): {error}") from error
            yield number, row

    # ---- the text column ----

    def _first_rows(self) -> Iterator[Any]:
        with contextlib.suppress(OSError, EOFError, zlib.error):  # named where it is read
            if self.source.format == "hub":
                yield from (row for _, row in self._hub(Piece(0, self.source.path)))
                return
            for file in files(self.source):
                if self.source.format == "parquet":
                    schema = parquet_file(str(file)).schema_arrow
                    yield {field.name: "" if _is_text(field.type) else None for field in schema}
                else:
                    yield from (row for _, row in self._found(Piece(0, str(file))))


def _is_text(kind: Any) -> bool:
    """Is an Arrow type one of strings?"""
    name = str(getattr(kind, "value_type", kind)) if str(kind).startswith("dictionary") else str(kind)
    return name in ("string", "large_string", "string_view")


def _module(file: str) -> str:
    path = Path(file)
    return path.parent.name if path.stem == "__init__" else path.stem


def _line_number(piece: Piece, number: int) -> int:
    """The number in the file, from 1, of a line of a piece; the lines before the piece are counted only now."""
    left, before = piece.start, 0
    with Path(piece.file).open("rb") as stream:
        while left and (block := stream.read(min(left, CHUNK))):
            before += block.count(b"\n")
            left -= len(block)
    return before + number + 1


def _decoded(content: bytes) -> str | Fault:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 ({error.reason} at byte {error.start}); convert the file"
        return Fault(reason, content[:200].decode("utf-8", "replace"))
