"""Files of a checkpoint: serialised in memory at once, written by a thread while the training goes on."""

import io
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import xxhash

from trainyard.checkpoint.manifest import FileEntry


class BackgroundWriter:
    """A thread that carries out tasks in their order, until one fails.

    Attributes:
        entries: the files written since `begin`, by path.
    """

    def __init__(self) -> None:
        self.entries: dict[Path, FileEntry] = {}
        self._tasks: queue.Queue[Callable[[], None]] = queue.Queue()
        self._error: Exception | None = None
        threading.Thread(target=self._work, daemon=True, name="checkpoint-writer").start()

    def begin(self) -> None:
        """Starts an empty list of entries; every earlier task must have been waited for."""
        self.entries = {}

    def then(self, task: Callable[[], None]) -> None:
        """Adds a task, to be carried out after all earlier ones."""
        self._tasks.put(task)

    def check(self) -> None:
        """Raises the error of a task that failed."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Returns when every task is done; raises the error of a task that failed."""
        self._tasks.join()
        self.check()

    def save(self, value: Any, file: Path, *, zipped: bool = True) -> None:
        """As torch.save does: the value may change as soon as this returns, since its bytes are copied to the host.

        The copy takes about 2 s per GiB.

        Args:
            zipped: the format of PyTorch 1.6 and later; else the older one.
        """
        buffer = io.BytesIO()
        torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
        self.write(buffer.getbuffer(), file)

    def save_tensors(self, tensors: dict[str, torch.Tensor], file: Path) -> None:
        """As `save`, into a safetensors file in the form of transformers."""
        self.write(safetensors.torch.save(tensors, {"format": "pt"}), file)

    def write(self, content: bytes | memoryview, file: Path) -> None:
        """Has the content written, which must not change, and flushed to the disk."""

        def task() -> None:
            with file.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            self.entries[file] = FileEntry(len(content), xxhash.xxh3_128_hexdigest(content))

        self.then(task)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                if self._error is None:
                    task()
            except Exception as error:  # for the rank to raise
                self._error = error
            finally:
                del task  # with the bytes that it wrote
                self._tasks.task_done()
