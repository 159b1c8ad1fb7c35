"""The work of a preparation, in parts that are finished one by one, by any number of processes and nodes.

Each part becomes one Arrow file of the later store, in a directory beside the store's place. It counts as finished once
its description is there, which is written last. A process holds a lock on the part that it works on; the lock of a dead
process holds nothing. When all parts are finished, one process writes the rest of the store beside them and renames the
directory: from then on it is a store.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.config.schema import DataConfig
from trainyard.data.preparation.chosen_encoder import ChosenEncoder
from trainyard.data.preparation.description import Description
from trainyard.data.preparation.part_writer import PartWriter, Rejections, batches
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.reader import Reader
from trainyard.data.store import ArrowWriter
from trainyard.errors import BackendMismatchError, DataError
from trainyard.files import this_process, try_lock

_POLL_S = 0.1

_POLLS_BEFORE_SAYING = 50
"""After so many polls for a part of another process, that process is named."""

Report = Callable[[int, int], None]
"""Is called with the bytes on disk that all processes have done, and with the bytes of all sources."""


@dataclass
class Parts:
    """The parts of one store, and how each is made."""

    directory: Path
    parts: list[list[Piece]]
    readers: list[Reader]
    """One for each source."""
    encoder: ChosenEncoder
    vocab_size: int
    masked: bool
    """Do the documents come with a loss mask?"""
    data: DataConfig
    report: Report

    def __post_init__(self) -> None:
        self._finished: set[int] = set()
        self._sizes = [sum(piece.size for piece in part) for part in self.parts]

    # ---- the files of a part ----

    def name(self, number: int) -> str:
        """The name of a part's Arrow file."""
        return f"data-{number:05d}-of-{len(self.parts):05d}.arrow"

    def prefix(self, number: int) -> Path:
        """How the paths of a part's other files begin."""
        return self.directory / f"part-{number:05d}"

    def description(self, number: int) -> Path:
        """The file that makes a part count as finished."""
        return self.directory / f"part-{number:05d}.json"

    def _lock_file(self, number: int) -> Path:
        return self.directory / f"part-{number:05d}.lock"

    # ---- which parts are finished ----

    def finished(self, number: int) -> bool:
        """Is a part whole? A part that gigatoken made no longer counts once gigatoken was found to be wrong."""
        if number in self._finished and not self.encoder.disproved.exists():
            return True
        try:
            part = Description.read(self.description(number))
            whole = (self.directory / self.name(number)).stat().st_size == part.arrow_bytes
        except (OSError, ValueError):
            return False
        if whole and self.encoder.trusts(part.tokenizer_backend):
            self._finished.add(number)
            return True
        return False

    def unfinished(self, numbers: Sequence[int] | None = None) -> list[int]:
        """The parts, of some or of all, that are not finished."""
        return [n for n in (range(len(self.parts)) if numbers is None else numbers) if not self.finished(n)]

    # ---- making them ----

    def make(self, numbers: Sequence[int] | None = None, *, wait: bool = True) -> None:
        """Makes parts until all are finished; a part that another process works on is left to that process.

        Args:
            numbers: the parts to look after; None: all.
            wait: stay until other processes have finished their parts, and take over the parts of those that die.

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
                    self.encoder.disprove(str(error))
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
        """Bytes on disk of the finished parts of all processes, without the part that is being made."""
        return sum(size for n, size in enumerate(self._sizes) if n != current and self.description(n).exists())

    def _make_part(self, number: int) -> None:
        """Makes one part; the caller holds its lock."""
        started = time.time()
        self.encoder.renew()
        done = self._bytes_done(number)
        staging = self.directory / f".{self.name(number)}"
        rejections = Rejections(stop=self.data.on_error == "stop")
        with ArrowWriter(staging, self.vocab_size, masked=self.masked) as arrow:
            writer = PartWriter(arrow, self.readers, rejections)
            try:
                for batch in batches(self.parts[number], self.readers, rejections):
                    writer.add(batch, self.encoder)
                    self.report(done + batch.position, sum(self._sizes))
            except DataError as error:
                raise rejections.error(*error.problems) from error
        size = _on_disk(staging)
        staging.rename(self.directory / self.name(number))
        counts = writer.close(self.prefix(number))
        for file in self.directory.glob(f"part-{number:05d}.*.*"):
            _on_disk(file)
        description = Description(
            documents=counts.documents,
            empty=counts.empty,
            notes=counts.notes,
            rejected=counts.rejected,
            bytes=counts.bytes,
            learned_tokens=counts.learned_tokens,
            tokenizer_backend=self.encoder.name,
            backend_reason=self.encoder.reason,
            span=(started, time.time()),
            arrow_bytes=size,
        )
        description.write(self.description(number))


def _on_disk(file: Path) -> int:
    """Waits until a file's content is on the disk, not only in the system's cache; returns its size in bytes."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        return os.fstat(stream.fileno()).st_size
