"""The work of a preparation, in parts that are finished one by one, by any number of processes and nodes.

The pieces of the sources are grouped into parts. Each part becomes one Arrow file of the later store, in a directory
beside it, and counts as finished once its description is there, which is written last. Whoever works on a part holds a
lock on it; the lock of a dead process holds nothing. When all parts are finished, one process puts the rest of the
store beside them and renames the directory: from then on it is a store.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash

from trainyard.data.encoder import BackendMismatchError
from trainyard.data.reader import Reader, Rejected
from trainyard.data.sources import DataError, Piece
from trainyard.data.store import ArrowWriter
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig

BATCH_CHARACTERS = 4_000_000
ADVICE = "correct such documents, or leave them out with data.on_error=skip"
SHOWN = 10
"""Bad documents that are named before a preparation stops."""
_POLL_S = 0.1


class Encoder(Protocol):
    """Texts to tokens; `name` is the backend and `reason` why it was chosen."""

    name: str
    reason: str

    def __call__(self, texts: list[str]) -> Tokens: ...


class MakeEncoder(Protocol):
    def __call__(self, tokenizer: Any, sample: Sequence[str], data: DataConfig, *, fast: bool = True) -> Encoder: ...


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
        size += max(piece.size, 1 << 10)
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

    def __post_init__(self) -> None:
        self._encoder: Encoder | None = None
        self._reason = ""
        self._sizes = [sum(piece.size for piece in part) for part in self.parts]

    # ---- which parts are finished ----

    def finished(self, number: int) -> bool:
        """A part that gigatoken made does not count any more once gigatoken was found to be wrong on this corpus."""
        try:
            part = json.loads(self.description(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return not (part["tokenizer_backend"] == "gigatoken" and self.disproved.exists())

    def unfinished(self, numbers: Sequence[int] | None = None) -> list[int]:
        return [n for n in (range(len(self.parts)) if numbers is None else numbers) if not self.finished(n)]

    def name(self, number: int) -> str:
        return f"data-{number:05d}-of-{len(self.parts):05d}.arrow"

    def description(self, number: int) -> Path:
        return self.directory / f"part-{number:05d}.json"

    @property
    def disproved(self) -> Path:
        return self.directory / "disproved.txt"

    @contextlib.contextmanager
    def _claimed(self, number: int) -> Iterator[bool]:
        with (self.directory / f"part-{number:05d}.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    # ---- making them ----

    def make(self, numbers: Sequence[int] | None = None, *, wait: bool = True) -> None:
        """Makes the parts that nobody has made, until all are finished; leaves those that another process is at.

        Args:
            numbers: the parts to look after; None: all.
            wait: stay until others have finished theirs, to take over what they leave.

        Raises:
            DataError: bad input.
        """
        while todo := self.unfinished(numbers):
            worked = False
            for number in todo:
                try:
                    with self._claimed(number) as mine:
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
                self._report(None, 0)
                time.sleep(_POLL_S)

    def _report(self, current: int | None, position: int) -> None:
        done = sum(size for n, size in enumerate(self._sizes) if n != current and self.description(n).exists())
        self.report(done + position, sum(self._sizes))

    def _make_part(self, number: int) -> None:
        started = time.time()
        if self._encoder is not None and self._encoder.name == "gigatoken" and self.disproved.exists():
            self._encoder = None  # by another process
        staging = self.directory / f".{self.name(number)}"
        lengths: list[Any] = []
        hashes: list[int] = []
        rejected: list[Rejected] = []
        counts = [0] * len(self.readers)
        num_bytes = 0
        done_before = sum(size for n, size in enumerate(self._sizes) if n != number and self.description(n).exists())
        with ArrowWriter(staging, len(self.tokenizer)) as writer:
            for texts, position in self._batches(self.parts[number], counts, rejected):
                self._encoder = self._encoder or self._choose_encoder(texts)
                tokens = self._encoder(texts)
                raw = [text.encode("utf-8") for text in texts]
                writer.add(tokens)
                lengths.append(tokens.lengths.astype(np.uint32))
                hashes += [xxhash.xxh3_64_intdigest(text) for text in raw]
                num_bytes += sum(map(len, raw))
                self.report(done_before + position, sum(self._sizes))
        staging.rename(self.directory / self.name(number))
        prefix = f"part-{number:05d}"
        np.save(self.directory / f"{prefix}.lengths.npy", np.concatenate([*lengths, np.empty(0, np.uint32)]))
        np.save(self.directory / f"{prefix}.hashes.npy", np.array(hashes, dtype=np.uint64))
        lines = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rejected)
        (self.directory / f"{prefix}.rejected.jsonl").write_text(lines, encoding="utf-8", errors="backslashreplace")
        described = {
            "documents": counts,
            "rejected": len(rejected),
            "bytes": num_bytes,
            "tokenizer_backend": self._encoder.name if self._encoder else "none",
            "backend_reason": self._reason,
            "span": [started, time.time()],
        }
        half = self.directory / f".{prefix}.json"
        half.write_text(json.dumps(described), encoding="utf-8")
        half.rename(self.description(number))

    def _choose_encoder(self, sample: list[str]) -> Encoder:
        """One that is right for this corpus. That gigatoken is not, whoever finds it out, is noted for all."""
        fast = not self.disproved.exists()
        encoder = self.make_encoder(self.tokenizer, sample, self.data, fast=fast)
        if fast and encoder.name != "gigatoken":
            self.disproved.write_text(encoder.reason, encoding="utf-8")
        self._reason = encoder.reason if fast else self.disproved.read_text(encoding="utf-8")
        return encoder

    def _batches(
        self, pieces: list[Piece], counts: list[int], rejected: list[Rejected]
    ) -> Iterator[tuple[list[str], int]]:
        """Texts, and the bytes of the part that were read for them; counts documents by source, gathers bad ones.

        Raises:
            DataError: there are bad documents and data.on_error=stop; with the first ten of this part.
        """
        batch: list[str] = []
        size = before = 0
        stop = self.data.on_error == "stop"
        try:
            for piece in pieces:
                reader = self.readers[piece.source]
                for document in reader(piece):
                    if isinstance(document, Rejected):
                        rejected.append(document)
                        if stop and len(rejected) == SHOWN:
                            raise DataError("there may be more")
                        continue
                    counts[piece.source] += 1
                    batch.append(document)
                    size += len(document)
                    if size >= BATCH_CHARACTERS:
                        if not (stop and rejected):  # otherwise the rest is only looked at
                            yield batch, before + reader.position
                        batch, size = [], 0
                before += piece.size
            if stop and rejected:
                raise DataError()
        except DataError as error:
            raise DataError(*map(str, rejected[:SHOWN]), *error.problems, *([ADVICE] if rejected else [])) from error
        if batch:
            yield batch, before


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds a lock beside a directory while it is made; the lock of a dead process holds nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
