"""Put on the PYTHONPATH of a run, this breaks something in it: FAULT="kind rank step", as "hang 1 5".

The fault happens once for each file named by FAULT_ONCE, which is made when it does; without one, every time.
"""

import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any


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


def at_step(rank: int, step: int, action: Any) -> Any:
    """Wraps Trainer.training_step: `action(trainer, loss)` in the forward and backward pass that leads to `step`."""

    def patch(module: ModuleType) -> None:
        original = module.Trainer.training_step

        def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = original(self, *args, **kwargs)
            if self.split.rank == rank and self.state.global_step == step - 1 and happens():
                return action(self, loss)
            return loss

        module.Trainer.training_step = training_step

    return patch


def hang(trainer: Any, loss: Any) -> Any:
    while True:
        time.sleep(1000)


def fail(trainer: Any, loss: Any) -> Any:
    raise RuntimeError("injected")


if "FAULT" in os.environ:
    kind, rank, step = os.environ["FAULT"].split()
    actions = {"hang": hang, "fail": fail}
    sys.meta_path.insert(0, AfterImport("trainyard.trainer", at_step(int(rank), int(step), actions[kind])))
