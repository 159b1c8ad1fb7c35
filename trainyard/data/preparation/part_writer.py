"""One part of a preparation: documents in batches, encoded, and written as an Arrow file with arrays beside it."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from trainyard.data.preparation.notes import Notes
from trainyard.data.sources.documents import Document, Empty
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.reader import Reader, Rejected
from trainyard.data.store import ArrowWriter, Noted, array_types, flat_cut_points
from trainyard.data.tokenization.encoded import Tokens
from trainyard.errors import DataError
from trainyard.files import json_lines

BATCH_CHARACTERS = 4_000_000
"""Documents of about so many characters are encoded together."""

ADVICE = "correct such documents, or leave them out with data.on_error=skip"

SHOWN = 10
"""Bad documents that are named before a preparation stops."""


class Batch(NamedTuple):
    """Documents that are encoded together."""

    documents: list[Document]
    places: list[tuple[Piece, int | None]]
    """Where each document was found: a piece, and the document's number there."""
    position: int
    """Bytes on disk of the part that have been read."""


class Counts(NamedTuple):
    """What was written of a part."""

    documents: list[int]
    """Documents of each source."""
    empty: list[int]
    """Documents of each source without text, which are left out."""
    notes: list[list[Noted]]
    """For each source what a user should know of some of its documents."""
    rejected: int
    bytes: int
    """Bytes of the documents' texts."""
    learned_tokens: int | None
    """None without a loss mask."""


class Rejections:
    """The bad documents of a part; they are named in whatever error ends the work.

    Attributes:
        rows: the documents.
        empty: how many documents of each source hold no text; they are no error.
    """

    def __init__(self, stop: bool):
        """`stop`: bad documents end the work; reading goes on until SHOWN of them are found."""
        self.rows: list[Rejected] = []
        self.empty: Counter[int] = Counter()
        self._stop = stop

    @property
    def ending(self) -> bool:
        """Is the work going to end? Then the rest is only read, for further bad documents."""
        return self._stop and bool(self.rows)

    def add(self, rejected: Rejected) -> None:
        """
        Raises:
            DataError: enough bad documents are found to stop.
        """
        self.rows.append(rejected)
        if self._stop and len(self.rows) == SHOWN:
            raise DataError("there may be more")

    def error(self, *problems: str) -> DataError:
        """The error that ends the work: the bad documents, then these problems."""
        return DataError(*map(str, self.rows[:SHOWN]), *problems, *([ADVICE] if self.rows else []))


class PartWriter:
    """Encodes batches into the Arrow file, and gathers the arrays, which `close` writes beside that file."""

    def __init__(self, arrow: ArrowWriter, readers: list[Reader], rejections: Rejections):
        self._arrow, self._readers, self.rejections = arrow, readers, rejections
        self._arrays: dict[str, list[Any]] = {name: [] for name in array_types(arrow.masked)}
        self._documents = [0] * len(readers)
        self._notes = [Notes() for _ in readers]
        self._bytes = self._learned = 0

    def add(self, batch: Batch, encode: Callable[[list[Any]], Tokens]) -> None:
        """Encodes a batch; documents that the encoder refuses become rejections."""
        tokens = encode(batch.documents)
        for index, reason in sorted(tokens.refused.items()):
            piece, number = batch.places[index]
            document = batch.documents[index]
            shown = document if isinstance(document, str) else document.messages
            self.rejections.add(self._readers[piece.source].rejected(piece, number, reason, shown))
        if self.rejections.ending:
            return
        self._arrow.add(tokens)
        kept = [index for index in range(len(batch.documents)) if index not in tokens.refused]
        raw = [_serialized(batch.documents[index]) for index in kept]
        for index in kept:
            self._documents[batch.places[index][0].source] += 1
        for index, notes in zip(kept, tokens.notes, strict=False):
            self._notes[batch.places[index][0].source].add(notes)
        self._bytes += sum(map(len, raw))
        self._learned += int(tokens.loss_mask.sum()) if tokens.loss_mask is not None else 0
        cut_points = [flat_cut_points(points) for points in tokens.cut_points]
        made = {
            "lengths": tokens.lengths,
            "hashes": [xxhash.xxh3_64_intdigest(document) for document in raw],
            "cuts": [point for points in cut_points for point in points],
            "cut_counts": [len(points) for points in cut_points],
        }
        for name, arrays in self._arrays.items():
            arrays.append(made[name])

    def close(self, prefix: Path) -> Counts:
        """Writes `<prefix>.<array>.npy` and `<prefix>.rejected.jsonl`."""
        for name, dtype in array_types(self._arrow.masked).items():
            arrays = [np.asarray(values, dtype) for values in self._arrays[name]]
            np.save(f"{prefix}.{name}.npy", np.concatenate([*arrays, np.empty(0, dtype)]))
        rows = self.rejections.rows
        lines = json_lines((row._asdict() for row in rows), ensure_ascii=False)
        Path(f"{prefix}.rejected.jsonl").write_text(lines, encoding="utf-8", errors="backslashreplace")
        empty = [self.rejections.empty[source] for source in range(len(self._documents))]
        notes = [each.noted() for each in self._notes]
        learned = self._learned if self._arrow.masked else None
        return Counts(self._documents, empty, notes, len(rows), self._bytes, learned)


def batches(pieces: list[Piece], readers: list[Reader], rejections: Rejections) -> Iterator[Batch]:
    """The documents of some pieces in order, a few megabytes at a time; bad documents go to `rejections`.

    Raises:
        DataError: the work ends because of bad documents, or a file cannot be read.
    """
    documents: list[Document] = []
    places: list[tuple[Piece, int | None]] = []
    size = before = 0
    for piece in pieces:
        reader = readers[piece.source]
        for number, document in reader(piece):
            if isinstance(document, Rejected):
                rejections.add(document)
                continue
            if isinstance(document, Empty):
                rejections.empty[piece.source] += 1
                continue
            documents.append(document)
            places.append((piece, number))
            size += len(document)
            if size >= BATCH_CHARACTERS:
                if not rejections.ending:
                    yield Batch(documents, places, before + reader.position)
                documents, places, size = [], [], 0
        before += piece.size
    if documents and not rejections.ending:
        yield Batch(documents, places, before)
    if rejections.ending:
        raise DataError()


def _serialized(document: Document) -> bytes:
    return document.encode("utf-8") if isinstance(document, str) else document.serialized
