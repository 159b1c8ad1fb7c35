"""The token store: the token ids of all documents, flat, written to disk once and read through memory maps.

A store is a directory that `datasets.load_from_disk` opens. Its Arrow files have a row per document: `input_ids`,
uint16 where the vocabulary fits and uint32 elsewhere, and for conversations `loss_mask`, uint8. Beside them lie

    lengths.npy      uint32, tokens of each document
    hashes.npy       uint64, a hash of each document's text
    summary.json     what the preparation counted
    cuts.npy         uint32, for conversations: the cut points of all of them, flat
    cut_counts.npy   uint32, for conversations: how many of these each conversation has
"""

import bisect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainyard.data.tokenization.encoded import CutPoints, Tokens
from trainyard.errors import DataError
from trainyard.files import first_line, known, write_json

_UNKNOWN = 2**32 - 1
"""In cuts.npy: the first cut point of a conversation whose lead has no known end (None in CutPoints)."""


@dataclass(frozen=True)
class Noted:
    """What a user should know of some documents of a source."""

    what: str
    """A sentence."""
    count: int
    """Documents of which it is true."""
    example: str = ""
    """How it looks in the first of them."""


@dataclass(frozen=True)
class SourceCounts:
    """What a store holds of one source."""

    documents: int
    tokens: int
    empty: int = 0
    """Documents that were left out because they hold no text."""
    notes: list[Noted] = field(default_factory=list)
    """The most frequent first."""

    @classmethod
    def read(cls, fields: dict[str, Any]) -> "SourceCounts":
        """From JSON. Keys of another version are passed over."""
        notes = [Noted(**known(Noted, note)) for note in fields.get("notes", [])]
        return cls(**{**known(cls, fields), "notes": notes})


@dataclass(frozen=True)
class StoreSummary:
    """What the preparation counted; summary.json has the same names."""

    rejected: int
    """Documents that were left out."""
    vocab_size: int
    """Rows that the tokenizer's ids need."""
    tokenizer_backend: str
    backend_reason: str
    """Why that backend was chosen."""
    seconds: float
    """Time in which at least one part was worked on."""
    mb_per_s: float
    """Text per second, in 10**6 bytes."""
    bytes: int
    """Bytes of the documents' texts."""
    sources: list[SourceCounts]
    """In the order of data.sources, which is the order of the documents."""
    learned_tokens: int | None = None
    """Tokens that the loss counts; None without a loss mask."""

    @classmethod
    def read(cls, store: Path) -> "StoreSummary":
        """The summary of a store. Keys of another version are passed over.

        Raises:
            DataError: summary.json is missing or damaged.
        """
        try:
            return cls._read(store)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(damaged(store / "summary.json", store, error)) from error

    @classmethod
    def _read(cls, store: Path) -> "StoreSummary":
        fields = json.loads((store / "summary.json").read_text(encoding="utf-8"))
        sources = [SourceCounts.read(source) for source in fields["sources"]]
        return cls(**{**known(cls, fields), "sources": sources})

    def write(self, store: Path) -> None:
        """Writes summary.json."""
        write_json(store / "summary.json", {name: value for name, value in asdict(self).items() if value is not None})


def damaged(file: Path, directory: Path, error: BaseException) -> str:
    """The message for a file of prepared data that cannot be read."""
    reason = f"{type(error).__name__}: {first_line(error)}"
    return f"{file}: damaged or missing ({reason}). Delete {directory}; the same command then makes it again"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds ids below vocab_size: 2 bytes a token up to 65,536, else 4."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def array_types(masked: bool) -> dict[str, Any]:
    """Names and types of the arrays beside the Arrow files; each is saved as <name>.npy."""
    conversations = {"cuts": np.uint32, "cut_counts": np.uint32}
    return {"lengths": np.uint32, "hashes": np.uint64} | (conversations if masked else {})


def flat_cut_points(points: CutPoints) -> list[int]:
    """The cut points of one conversation as cuts.npy holds them: the first, which may be unknown, then the others."""
    return [_UNKNOWN if points.first is None else points.first, *points.later]


def _columns(vocab_size: int, masked: bool) -> dict[str, np.dtype[Any]]:
    return {"input_ids": token_dtype(vocab_size)} | ({"loss_mask": np.dtype(np.uint8)} if masked else {})


def _features(columns: dict[str, np.dtype[Any]]) -> dict[str, Any]:
    return {
        name: {"feature": {"dtype": dtype.name, "_type": "Value"}, "_type": "List"} for name, dtype in columns.items()
    }


class ArrowWriter:
    """Writes one Arrow file of a store, a batch of documents at a time, in constant memory.

    The file is whole only after the writer was closed without an error.
    """

    def __init__(self, path: Path, vocab_size: int, *, masked: bool = False):
        self.masked = masked
        self.columns = _columns(vocab_size, masked)
        fields = [pa.field(name, pa.list_(pa.from_numpy_dtype(dtype))) for name, dtype in self.columns.items()]
        metadata = {"huggingface": json.dumps({"info": {"features": _features(self.columns)}})}
        self._schema = pa.schema(fields, metadata=metadata)
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, self._schema)

    def add(self, tokens: Tokens) -> None:
        """Writes documents, a row each."""
        assert not len(tokens.ids) or int(tokens.ids.max()) <= np.iinfo(self.columns["input_ids"]).max
        offsets = pa.array(np.concatenate([[0], np.cumsum(tokens.lengths)]).astype(np.int32))
        values = {"input_ids": tokens.ids, "loss_mask": tokens.loss_mask}
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(np.asarray(values[name], dtype)))
            for name, dtype in self.columns.items()
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def __enter__(self) -> "ArrowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._writer.close()
        self._file.close()


def describe(directory: Path, arrow_files: Sequence[str], summary: StoreSummary, *, masked: bool = False) -> None:
    """Makes a store of a directory that holds the Arrow files and the arrays: writes the JSON files beside them."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in arrow_files],
        "_fingerprint": directory.name.lstrip("."),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(directory / "state.json", state)
    write_json(directory / "dataset_info.json", {"features": _features(_columns(summary.vocab_size, masked))})
    summary.write(directory)


class TokenStore:
    """A store opened for reading. Opening maps the files; pages are read when they are used."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.lengths: npt.NDArray[np.uint32] = np.load(directory / "lengths.npy", mmap_mode="r")
        self.hashes: npt.NDArray[np.uint64] = np.load(directory / "hashes.npy", mmap_mode="r")
        self.summary = StoreSummary.read(directory)
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        self._chunks: dict[str, list[npt.NDArray[Any]]] = {"input_ids": []}
        for entry in state["_data_files"]:
            table = pa.ipc.open_stream(pa.memory_map(str(directory / entry["filename"]))).read_all()
            for name in table.column_names:
                self._chunks.setdefault(name, []).extend(_view(chunk.flatten()) for chunk in table.column(name).chunks)
        sizes = np.array([len(chunk) for chunk in self._chunks["input_ids"]], dtype=np.int64)
        self._chunk_starts: list[int] = [0, *np.cumsum(sizes).tolist()]
        if self.masked:
            self._cuts = np.load(directory / "cuts.npy", mmap_mode="r")
            self._cut_counts = np.load(directory / "cut_counts.npy", mmap_mode="r")
            self._cut_starts = np.cumsum(self._cut_counts, dtype=np.int64) - self._cut_counts

    def __len__(self) -> int:
        """Documents."""
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return self._chunk_starts[-1]

    @property
    def masked(self) -> bool:
        """Does the store have a loss mask, as conversations do?"""
        return "loss_mask" in self._chunks

    def cut_points(self, document: int) -> CutPoints:
        """Where a conversation may be cut, in tokens from its beginning."""
        begin = int(self._cut_starts[document])
        points = self._cuts[begin : begin + int(self._cut_counts[document])].tolist()
        return CutPoints(None if points[:1] in ([], [_UNKNOWN]) else points[0], points[1:])

    def read(self, start: int, stop: int, column: str = "input_ids") -> npt.NDArray[Any]:
        """The tokens, or their loss mask, at [start, stop) of the flat store.

        It is a view of the mapped file unless the range lies in two batches of documents.
        """
        chunks = self._chunks[column]
        chunk = bisect.bisect_right(self._chunk_starts, start) - 1
        parts = []
        while start < stop:
            base, end = self._chunk_starts[chunk], self._chunk_starts[chunk + 1]
            parts.append(chunks[chunk][start - base : min(stop, end) - base])
            start, chunk = min(stop, end), chunk + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.uint16)])


def _view(values: Any) -> npt.NDArray[Any]:
    """An Arrow array of integers as numpy, without a copy; Arrow's own to_numpy would import pandas."""
    dtype = np.dtype(str(values.type))
    if len(values) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(values.buffers()[1], dtype, count=len(values), offset=values.offset * dtype.itemsize)
