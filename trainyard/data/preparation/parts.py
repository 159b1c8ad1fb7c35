"""The work of a preparation, in parts that are finished one by one, by any number of processes and nodes.

The pieces of the sources are grouped into parts. Each part becomes one Arrow file of the later store, in a directory
beside it, and counts as finished once its description is there, which is written last. Whoever works on a part holds a
lock on it; the lock of a dead process holds nothing. When all parts are finished, one process puts the rest of the
store beside them and renames the directory: from then on it is a store.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainyard.config.schema import DataConfig
from trainyard.data.preparation.part_writer import PartWriter, Rejections, batches
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.reader import Reader
from trainyard.data.store import ArrowWriter
from trainyard.data.tokenization.encoded import Tokens
from trainyard.data.tokenization.tokenizer import vocab_size
from trainyard.errors import BackendMismatchError, DataError
from trainyard.files import this_process, try_lock, write_bytes

_POLL_S = 0.1


_POLLS_BEFORE_SAYING = 50


class Encoder(Protocol):
    """Documents to tokens; `name` is the backend and `reason` why it was chosen."""

    name: str
    reason: str

    def __call__(self, documents: list[Any]) -> Tokens: ...


class MakeEncoder(Protocol):
    def __call__(self, tokenizer: Any, sample: Sequence[Any], data: DataConfig, *, fast: bool = True) -> Encoder: ...


Report = Callable[[int, int], None]
"""Called with the bytes on disk that are done, by whatever process, and those that there are."""


def group(pieces: Iterator[Piece], part_bytes: int) -> list[list[Piece]]:
    """Consecutive pieces, together up to about `part_bytes`."""
    parts: list[list[Piece]] = []
    size = part_bytes
    for piece in pieces:
        if size >= part_bytes:
            parts.append([])
            size = 0
        parts[-1].append(piece)
        size += max(piece.size, 1 << 10) if piece.size else part_bytes  # of unknown size, on the hub
    return parts


@dataclass
class Parts:
    """A directory in which a store comes to be, and what is to be done there."""

    directory: Path
    parts: list[list[Piece]]
    data: DataConfig
    readers: list[Reader]
    """One for each source."""
    tokenizer: Any
    make_encoder: MakeEncoder
    report: Report
    masked: bool = False
    """Do the documents come with a loss mask?"""

    def __post_init__(self) -> None:
        self._encoder: Encoder | None = None
        self._reason = ""
        self._known: set[int] = set()
        self.vocab_size = vocab_size(self.tokenizer)
        self._sizes = [sum(piece.size for piece in part) for part in self.parts]

    # ---- which parts are finished ----

    def finished(self, number: int) -> bool:
        """A part that gigatoken made does not count any more once gigatoken was found to be wrong on this corpus."""
        if number in self._known and not self.disproved.exists():
            return True
        try:
            part = json.loads(self.description(number).read_text(encoding="utf-8"))
            whole = (self.directory / self.name(number)).stat().st_size == part["arrow_bytes"]
        except (OSError, ValueError):
            return False
        if whole and not (part["tokenizer_backend"] == "gigatoken" and self.disproved.exists()):
            self._known.add(number)
            return True
        return False

    def unfinished(self, numbers: Sequence[int] | None = None) -> list[int]:
        return [n for n in (range(len(self.parts)) if numbers is None else numbers) if not self.finished(n)]

    def name(self, number: int) -> str:
        return f"data-{number:05d}-of-{len(self.parts):05d}.arrow"

    def description(self, number: int) -> Path:
        return self.directory / f"part-{number:05d}.json"

    @property
    def disproved(self) -> Path:
        return self.directory / "disproved.txt"

    def _lock_file(self, number: int) -> Path:
        return self.directory / f"part-{number:05d}.lock"

    # ---- making them ----

    def make(self, numbers: Sequence[int] | None = None, *, wait: bool = True) -> None:
        """Makes the parts that nobody has made, until all are finished; leaves those that another process is at.

        Args:
            numbers: the parts to look after; None: all.
            wait: stay until others have finished theirs, to take over what they leave.

        Raises:
            DataError: bad input.
        """
        polls = 0
        while todo := self.unfinished(numbers):
            worked = False
            for number in todo:
                try:
                    with try_lock(self._lock_file(number), this_process()) as mine:
                        if mine and not self.finished(number):
                            self._make_part(number)
                            worked = True
                except BackendMismatchError as error:
                    self.disproved.write_text(str(error), encoding="utf-8")
                    self._encoder = None
                    worked = True
                except FileNotFoundError:  # another process has published the store meanwhile
                    if not self.directory.is_dir():
                        return
                    raise
            if not worked and not wait:
                return
            if not worked:
                polls += 1
                if polls == _POLLS_BEFORE_SAYING:
                    self._say_who_is_waited_for(todo[0])
                self.report(self._bytes_done(), sum(self._sizes))
                time.sleep(_POLL_S)

    def _say_who_is_waited_for(self, number: int) -> None:
        with contextlib.suppress(OSError):
            holder = self._lock_file(number).read_text(encoding="utf-8")
            print(f"waiting for part {number} of {len(self.parts)}, which {holder} works on", file=sys.stderr)

    def _bytes_done(self, current: int | None = None) -> int:
        """Bytes on disk of the parts that are there, whoever made them, without the one that is being made."""
        return sum(size for n, size in enumerate(self._sizes) if n != current and self.description(n).exists())

    def _make_part(self, number: int) -> None:
        started = time.time()
        if self._encoder is not None and self._encoder.name == "gigatoken" and self.disproved.exists():
            self._encoder = None  # by another process
        done = self._bytes_done(number)
        staging = self.directory / f".{self.name(number)}"
        rejections = Rejections(stop=self.data.on_error == "stop")
        with ArrowWriter(staging, self.vocab_size, masked=self.masked) as arrow:
            writer = PartWriter(arrow, self.readers, rejections)
            try:
                for batch in batches(self.parts[number], self.readers, rejections):
                    self._encoder = self._encoder or self._choose_encoder(batch.documents)
                    writer.add(batch, self._encoder)
                    self.report(done + batch.position, sum(self._sizes))
            except DataError as error:
                raise rejections.error(*error.problems) from error
        size = _on_disk(staging)
        staging.rename(self.directory / self.name(number))
        described = writer.close(self.directory / f"part-{number:05d}") | {
            "tokenizer_backend": self._encoder.name if self._encoder else "none",
            "backend_reason": self._reason,
            "span": [started, time.time()],
            "arrow_bytes": size,
        }
        for file in self.directory.glob(f"part-{number:05d}.*.*"):
            _on_disk(file)
        write_bytes(self.description(number), json.dumps(described).encode(), durable=True)

    def _choose_encoder(self, sample: list[Any]) -> Encoder:
        """One that is right for this corpus. That gigatoken is not, whoever finds it out, is noted for all."""
        fast = not self.disproved.exists()
        encoder = self.make_encoder(self.tokenizer, sample, self.data, fast=fast)
        if fast and encoder.name != "gigatoken":
            self.disproved.write_text(encoder.reason, encoding="utf-8")
        self._reason = encoder.reason if fast else self.disproved.read_text(encoding="utf-8")
        return encoder


def _on_disk(file: Path) -> int:
    """Waits until a file's content is on the disk, not only in the system's cache; its bytes."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        return os.fstat(stream.fileno()).st_size
