"""trainyard.checkpoint.rank_state."""

from pathlib import Path
from typing import Any

from trainyard.data.batches.loader import BatchLayout
from trainyard.files import read_json, write_json

WINDOW = "trainer_window_{}.json"
"""In a checkpoint, for each rank: the loss that is not logged yet, and whether an evaluation was left out."""


def write_rank_state(target: Path, rank: int, **values: Any) -> None:
    """What a rank has summed up since the last line of metrics."""
    write_json(target / WINDOW.format(rank), values)


def read_rank_state(found: Path, split: BatchLayout) -> dict[str, Any]:
    """This rank's part of a checkpoint's window; the mean over all where another number of ranks has written it."""
    windows = [read_json(file) for file in sorted(found.glob(WINDOW.format("*")))]
    if len(windows) == split.world_size:
        return read_json(found / WINDOW.format(split.rank))
    if not windows:
        return {}
    return windows[0] | {"loss": sum(window["loss"] for window in windows) / len(windows)}
