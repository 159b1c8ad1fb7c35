"""The token store: the token ids of all documents, flat, on disk once, read through memory maps without a copy.

A store is a directory that `datasets.load_from_disk` opens: Arrow files with a row per document and the column
`input_ids`, uint16 where the vocabulary fits and uint32 elsewhere. Beside them lie `lengths.npy` (uint32, tokens per
document), `hashes.npy` (uint64, a hash of each document's text) and `summary.json`.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainyard.data.tokens import Tokens

_ARROW = "data-00000-of-00001.arrow"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds ids below vocab_size: 2 bytes a token up to 65,536, else 4."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class StoreWriter:
    """Writes a store into an existing empty directory, a batch of documents at a time, in constant memory.

    The directory is a store only after the writer was closed without an error.
    """

    def __init__(self, directory: Path, vocab_size: int):
        self.directory = directory
        self.dtype = token_dtype(vocab_size)
        feature = {"feature": {"dtype": self.dtype.name, "_type": "Value"}, "_type": "List"}
        self._features = {"input_ids": feature}
        kind = pa.list_(pa.from_numpy_dtype(self.dtype))
        metadata = {"huggingface": json.dumps({"info": {"features": self._features}})}
        self._schema = pa.schema([pa.field("input_ids", kind)], metadata=metadata)
        self._file = pa.OSFile(str(directory / _ARROW), "wb")
        self._writer = pa.ipc.new_stream(self._file, self._schema)
        self._lengths: list[npt.NDArray[np.uint32]] = []
        self._hashes: list[npt.NDArray[np.uint64]] = []

    def add(self, tokens: Tokens, hashes: list[int]) -> None:
        """Appends documents, with the hash of each one's text."""
        offsets = np.concatenate([[0], np.cumsum(tokens.lengths)]).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens.ids.astype(self.dtype)))
        self._writer.write_batch(pa.record_batch([column], schema=self._schema))
        self._lengths.append(tokens.lengths.astype(np.uint32))
        self._hashes.append(np.array(hashes, dtype=np.uint64))

    def close(self, summary: dict[str, Any]) -> None:
        """Completes the store; `summary` is kept in summary.json."""
        self._writer.close()
        self._file.close()
        np.save(self.directory / "lengths.npy", np.concatenate([np.empty(0, np.uint32), *self._lengths]))
        np.save(self.directory / "hashes.npy", np.concatenate([np.empty(0, np.uint64), *self._hashes]))
        state: dict[str, Any] = {
            "_data_files": [{"filename": _ARROW}],
            "_fingerprint": self.directory.name,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        _write_json(self.directory / "state.json", state)
        _write_json(self.directory / "dataset_info.json", {"features": self._features})
        _write_json(self.directory / "summary.json", summary)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class TokenStore:
    """A store opened for reading. Opening maps the files; nothing is read until it is used."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.lengths: npt.NDArray[np.uint32] = np.load(directory / "lengths.npy", mmap_mode="r")
        self.hashes: npt.NDArray[np.uint64] = np.load(directory / "hashes.npy", mmap_mode="r")
        self.summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
        table = pa.ipc.open_stream(pa.memory_map(str(directory / _ARROW))).read_all()
        self._chunks = [_view(chunk.flatten()) for chunk in table.column(0).chunks]
        sizes = np.array([len(chunk) for chunk in self._chunks], dtype=np.int64)
        self._chunk_starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        """Documents."""
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        return int(self._chunk_starts[-1])

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The tokens at [start, stop) of the flat store; a view of the mapped file unless they lie in two batches."""
        chunk = int(np.searchsorted(self._chunk_starts, start, side="right")) - 1
        parts = []
        while start < stop:
            base, end = int(self._chunk_starts[chunk]), int(self._chunk_starts[chunk + 1])
            parts.append(self._chunks[chunk][start - base : min(stop, end) - base])
            start, chunk = min(stop, end), chunk + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.uint16)])


def _view(values: Any) -> npt.NDArray[Any]:
    """An Arrow array of integers as numpy, without a copy; Arrow's own to_numpy would import pandas."""
    dtype = np.dtype(str(values.type))
    if len(values) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(values.buffers()[1], dtype, count=len(values), offset=values.offset * dtype.itemsize)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
