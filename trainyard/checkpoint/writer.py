"""Files of a checkpoint, serialized in memory at once and written by a thread while the training goes on."""

import contextlib
import io
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
import xxhash

from trainyard.checkpoint.manifest import FileEntry

LEFT_OUT = "training_args.bin"
"""A pickle that runs code when it is loaded, and that nothing reads."""


class BackgroundWriter:
    """A thread that does what it is given in order, until something fails.

    Attributes:
        entries: what was written since `catching` began, by path.
    """

    def __init__(self) -> None:
        self.entries: dict[Path, FileEntry] = {}
        self._tasks: queue.Queue[Callable[[], None]] = queue.Queue()
        self._error: Exception | None = None
        threading.Thread(target=self._work, daemon=True, name="checkpoint-writer").start()

    def then(self, task: Callable[[], None]) -> None:
        """Has a task done after all earlier ones."""
        self._tasks.put(task)

    def check(self) -> None:
        """Raises what has gone wrong in the thread."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Until everything is done; raises what has gone wrong."""
        self._tasks.join()
        self.check()

    @contextlib.contextmanager
    def catching(self, directory: Path) -> Iterator[None]:
        """Leaves to the thread what torch.save and safetensors would write below a directory.

        Transformers, DeepSpeed and peft write through these two, which take a copy here: of tensors on a GPU too, and
        in the very bytes that the file will have.
        """
        self.entries = {}
        torch_save = torch.save

        def save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
            if not isinstance(file, str | os.PathLike) or not Path(file).is_relative_to(directory):
                torch_save(value, file, *args, **kwargs)
            elif Path(file).name != LEFT_OUT:
                buffer = io.BytesIO()
                torch_save(value, buffer, *args, **kwargs)
                self._put(Path(file), buffer.getbuffer())

        def save_file(tensors: Any, file: Any, metadata: Any = None) -> None:
            content = safetensors.torch.save(tensors, metadata)
            self._put(Path(file), memoryview(content))

        with contextlib.ExitStack() as patched:
            patched.enter_context(patch("torch.save", save))
            for module in sys.modules.keys() & {"transformers.modeling_utils", "peft.peft_model"}:
                patched.enter_context(patch(f"{module}.safe_save_file", save_file))
            yield

    def _put(self, file: Path, content: memoryview) -> None:
        def write() -> None:
            with file.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            self.entries[file] = FileEntry(len(content), xxhash.xxh3_128_hexdigest(content))

        self.then(write)

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
