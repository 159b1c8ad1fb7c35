"""Put on the PYTHONPATH of a run, this breaks something in it: FAULT="kind rank steps", as "hang 1 5" for rank 1 when 5
steps are done, or "nan-loss 1 5-9" for rank 1 in each of five steps. Several faults are
parted by semicolons.

The fault happens once for each file named by FAULT_ONCE, which is made when it does; without one, every time.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import bad_numbers


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module once it is imported."""

    def __init__(self, name: str, action: Any):
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def happens() -> bool:
    once = os.environ.get("FAULT_ONCE")
    if once and Path(once).exists():
        return False
    if once:
        Path(once).touch()
    return True


def before(method: str, rank: int, step: int, action: Any) -> Any:
    """Wraps a method of the Trainer: `action()` comes before it on a rank once `step` steps are done."""

    def patch(module: ModuleType) -> None:
        original = getattr(module.Trainer, method)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.split.rank == rank and self.state.global_step == step and happens():
                action()
            return original(self, *args, **kwargs)

        setattr(module.Trainer, method, wrapped)

    return patch


def hang() -> None:
    while True:
        time.sleep(1000)


def fail() -> None:
    raise RuntimeError("injected")


def send(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


def fill() -> None:
    """Leaves no room on the disk of FAULT_FILL."""
    with contextlib.suppress(OSError), Path(os.environ["FAULT_FILL"]).open("wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)


IN_THREAD = "kill-in-write"
"""SIGKILL when a rank has put all of its files on the disk, and the manifest is not there yet."""


def in_writer(rank: int, step: int) -> Any:
    def patch(module: ModuleType) -> None:
        original = module.Saver._note_written

        def note_written(self: Any, target: Path) -> None:
            if self.split.rank == rank and target.name == f"checkpoint-{step}" and happens():
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, target)

        module.Saver._note_written = note_written

    return patch


FAULTS = {
    "fill-in-save": ("_save_optimizer_and_scheduler", fill),
    "hang": ("training_step", hang),
    "fail": ("training_step", fail),
    "stop-in-forward": ("compute_loss", send(signal.SIGTERM)),
    "stop-in-evaluation": ("evaluation_loop", send(signal.SIGTERM)),
    "stop-in-save": ("_save_optimizer_and_scheduler", send(signal.SIGTERM)),
    "kill-in-save": ("_save_rng_state", send(signal.SIGKILL)),
}

for fault in filter(None, os.environ.get("FAULT", "").split(";")):
    kind, number, steps = fault.split()
    if kind == IN_THREAD:
        sys.meta_path.insert(0, AfterImport("trainyard.saving", in_writer(int(number), int(steps))))
        continue
    if kind in bad_numbers.FAULTS:
        patch = bad_numbers.patch(kind, int(number), steps, happens)
    else:
        method, action = FAULTS[kind]
        patch = before(method, int(number), int(steps), action)
    sys.meta_path.insert(0, AfterImport("trainyard.trainer", patch))
