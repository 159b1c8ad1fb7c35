"""DeepSpeed's half of a save in the background, through the interface that DeepSpeed has for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

from trainyard.checkpoint.writer import BackgroundWriter


class BackgroundCheckpointEngine(TorchCheckpointEngine):
    """DeepSpeed's default engine, whose files are written by our thread: the same names, the same format."""

    def __init__(self, inner: TorchCheckpointEngine, writer: BackgroundWriter):
        super().__init__()
        self.zipfile_serialization = inner.zipfile_serialization
        self._writer = writer

    def save(self, state_dict: Any, path: str) -> None:
        self._writer.save(state_dict, Path(path), zipped=self.zipfile_serialization)


@contextmanager
def in_background(engine: Any, writer: BackgroundWriter) -> Iterator[None]:
    """Inside, `engine.save_checkpoint` of a DeepSpeed engine leaves its tensors to the writer.

    The small files that DeepSpeed copies or writes itself, `latest` and zero_to_fp32.py, are written at once. A
    "checkpoint" section of the DeepSpeed JSON that names another writer is respected: its files are written at once.
    """
    inner = engine.checkpoint_engine
    if isinstance(inner, TorchCheckpointEngine):
        engine.checkpoint_engine = BackgroundCheckpointEngine(inner, writer)
    try:
        yield
    finally:
        engine.checkpoint_engine = inner
