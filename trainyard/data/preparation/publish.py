"""Finished parts to a store."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.schema import DataConfig
from trainyard.data.preparation.description import Description
from trainyard.data.preparation.notes import joined
from trainyard.data.preparation.part_writer import ADVICE, SHOWN
from trainyard.data.preparation.parts import Parts
from trainyard.data.sources.reader import Rejected
from trainyard.data.store import SourceCounts, StoreSummary, array_types, describe
from trainyard.errors import DataError


def check_rejected(directory: Path, rejected: int, documents: int, data: DataConfig) -> None:
    """Checks that no more documents were left out of a store than the settings allow.

    Args:
        rejected: documents that were left out.
        documents: documents in the store.

    Raises:
        DataError: too many were left out; the first ten are named.
    """
    share = rejected / max(1, rejected + documents)
    allowed = data.max_rejected if data.on_error == "skip" else 0.0
    if share <= allowed:
        return
    with (directory / "rejected.jsonl").open(encoding="utf-8") as stream:
        first = [str(Rejected(**json.loads(line))) for line, _ in zip(stream, range(SHOWN), strict=False)]
    what = f"{rejected:,} of {rejected + documents:,} documents are bad, {share:.2%}"
    rule = f"data.max_rejected={allowed:g} allows {allowed:.2%}" if data.on_error == "skip" else "data.on_error=stop"
    raise DataError(
        *first, f"{what}; {rule}. All are in {directory / 'rejected.jsonl'}; {ADVICE} and a higher data.max_rejected"
    )


def publish(parts: Parts, store: Path) -> None:
    """Makes a store of the finished parts; one process at a time may call it.

    Raises:
        DataError: there is no document, or more documents are bad than data.max_rejected allows.
    """
    numbers = range(len(parts.parts))
    described = [Description.read(parts.description(n)) for n in numbers]
    with (parts.directory / "rejected.jsonl").open("wb") as stream:
        for n in numbers:
            stream.write(Path(f"{parts.prefix(n)}.rejected.jsonl").read_bytes())
    count = sum(sum(part.documents) for part in described)
    check_rejected(parts.directory, sum(part.rejected for part in described), count, parts.data)
    if not count:
        raise DataError("data.sources hold no document: all that they hold is empty")
    for name, dtype in array_types(parts.masked).items():
        _join(parts, name, dtype)
    lengths = np.load(parts.directory / "lengths.npy", mmap_mode="r")
    bounds = np.cumsum(np.sum([part.documents for part in described], axis=0)).tolist()
    per_source = [
        SourceCounts(
            stop - start,
            int(lengths[start:stop].sum(dtype=np.int64)),
            sum(part.empty[source] for part in described),
            joined(part.notes[source] for part in described),
        )
        for source, (start, stop) in enumerate(zip([0, *bounds[:-1]], bounds, strict=True))
    ]
    seconds = _covered([part.span for part in described])
    num_bytes = sum(part.bytes for part in described)
    backends = [part for part in described if part.tokenizer_backend != "none"]
    summary = StoreSummary(
        rejected=sum(part.rejected for part in described),
        vocab_size=parts.vocab_size,
        tokenizer_backend=backends[0].tokenizer_backend,
        backend_reason=backends[0].backend_reason,
        seconds=round(seconds, 3),
        mb_per_s=round(num_bytes / 1e6 / seconds, 3),
        bytes=num_bytes,
        sources=per_source,
        learned_tokens=sum(part.learned_tokens or 0 for part in described) if parts.masked else None,
    )
    describe(parts.directory, [parts.name(n) for n in numbers], summary, masked=parts.masked)
    parts.directory.rename(store)
    for leftover in [*store.glob("part-*"), store / "disproved.txt"]:
        leftover.unlink(missing_ok=True)


def _join(parts: Parts, name: str, dtype: Any) -> None:
    """Joins one array of all parts, in the memory of one part."""
    files = [Path(f"{parts.prefix(number)}.{name}.npy") for number in range(len(parts.parts))]
    count = sum(len(np.load(file, mmap_mode="r")) for file in files)
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (count,)}
    # Not through a memory map: on a full disk that would kill the process without an error.
    with (parts.directory / f"{name}.npy").open("wb") as stream:
        np.lib.format.write_array_header_2_0(stream, described)
        for file in files:
            stream.write(np.load(file).astype(dtype).tobytes())


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which a process worked on at least one part: [0, 2], [1, 3] and [5, 6] cover 4."""
    total, until = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return max(total, 1e-3)
