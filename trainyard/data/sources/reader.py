"""Documents out of pieces of sources, one after another, in bounded memory. What is not a document is named, not passed
on.

There are two kinds of trouble. A single bad document (malformed, not UTF-8, without text, too long) is yielded as a
`Rejected`, and reading goes on behind it. Damage that hides an unknown number of documents (a truncated gzip, a broken
JSON list) raises a DataError.
"""

import contextlib
import functools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainyard.config.schema import SourceConfig
from trainyard.data.conversations import other_kinds
from trainyard.data.conversations.formats import COLUMNS
from trainyard.data.sources import lines, rows
from trainyard.data.sources.documents import (
    Document,
    Empty,
    Fault,
    beginning,
    conversation_document,
    find_text_column,
    text_document,
)
from trainyard.data.sources.files import container, files
from trainyard.data.sources.pieces import Piece
from trainyard.errors import DataError


class Rejected(NamedTuple):
    """A document that is left out."""

    file: str
    number: int | None
    """Its line, from 1; in parquet files and datasets its row, from 0. None: the file itself."""
    unit: str
    """line or row."""
    reason: str
    text: str
    """How it begins."""

    def __str__(self) -> str:
        place = "" if self.number is None else f":{self.number}" if self.unit == "line" else f", row {self.number}"
        return f"{self.file}{place}: {self.reason}"


class Reader:
    """Reads the pieces of one source.

    Attributes:
        column: the column that holds the text, named in the source or found in its first rows; None if rows are no
            objects with a text.
        fields: for conversations, the row's name for each column of the format; else empty.
        position: bytes on disk that were read of the current piece.
    """

    def __init__(self, source: SourceConfig, max_bytes: int, revision: str | None = None):
        """
        Args:
            max_bytes: the longest line, file or text that counts as a document.
            revision: the commit of a hub dataset.

        Raises:
            DataError: no column holds text.
        """
        self.source, self.max_bytes, self.revision = source, max_bytes, revision
        self._kept = functools.cache(functools.partial(container, source))  # it may read the head of a file
        self.position = 0
        self.column: str | None = None
        self.fields: dict[str, str] = {}
        if source.format in COLUMNS:
            self.fields = {name: name for name in COLUMNS[source.format]} | dict(source.columns or {})
        elif source.format not in ("text", "docstrings"):
            self.column = source.columns[0] if source.columns else find_text_column(source.path, self._first_rows())

    def __call__(self, piece: Piece) -> Iterator[tuple[int | None, Document | Empty | Rejected]]:
        """The documents of a piece, in order, each with its number in the piece, which `rejected` asks for.

        Raises:
            DataError: the rest of the piece cannot be read.
        """
        self.position = 0
        try:
            document: Document | Empty | Fault
            for number, value in self._found(piece):
                if self.fields:
                    document = conversation_document(value, self.source.format, self.fields, self.max_bytes)
                else:
                    document = text_document(value, self.column, self.max_bytes)
                if isinstance(document, Fault):
                    yield number, self.rejected(piece, number, document.reason, document.text or value)
                else:
                    yield number, document
        except (OSError, EOFError, zlib.error) as error:  # a truncated gzip is an EOFError, a damaged one a zlib.error
            raise DataError(f"{piece.file}: {error}. What follows cannot be read") from error

    def rejected(self, piece: Piece, number: int | None, reason: str, value: Any) -> Rejected:
        """Names a document that was found at `number` of a piece."""
        unit = "row" if self._kept(piece.file) in ("parquet", "hub") else "line"
        if number is not None and unit == "line":
            number = lines.line_number(piece, number)
        return Rejected(piece.file, number, unit, reason, beginning(value))

    def _found(self, piece: Piece) -> lines.Found:
        """The values in a piece with their numbers, read as its kind of file demands; see lines.py and rows.py."""
        kept, limit = self._kept(piece.file), self.max_bytes
        if kept == "hub":
            return rows.dataset_rows(piece, self.source, self.revision)
        if Path(piece.file).stat().st_size == 0:
            return iter([(None, Empty())])
        if self.source.format == "docstrings":
            return lines.docstrings(piece, limit)
        if kept == "text" and self.source.document == "file":
            return lines.whole_file(piece, limit)
        if kept == "text":
            by_document = {"line": lines.text_lines, "paragraph": lines.paragraphs}
            return by_document[self.source.document](piece, limit, self._at)
        if kept == "parquet":
            return rows.parquet_rows(piece, self.column, [*self.fields.values(), *other_kinds.COLUMNS])
        return {"jsonl": lines.json_lines, "json": rows.json_rows}[kept](piece, limit, self._at)

    def _at(self, position: int) -> None:
        self.position = position

    def _first_rows(self) -> Iterator[Any]:
        """The first rows of the source; for a parquet file one row of its columns."""
        with contextlib.suppress(OSError, EOFError, zlib.error):  # named where it is read
            if self.source.format == "hub":
                whole = Piece(0, self.source.path)
                yield from (row for _, row in rows.dataset_rows(whole, self.source, self.revision))
                return
            for file in files(self.source):
                if self.source.format == "parquet":
                    yield rows.text_columns(str(file))
                else:
                    yield from (row for _, row in self._found(Piece(0, str(file))))
