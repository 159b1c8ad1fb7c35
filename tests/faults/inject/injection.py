"""What the injected faults share: after which import they are put in, when they are due, and the record of each.

FAULT_HITS names the file of the record: a line with the fault's kind each time that it happens. The tests fail when a
fault that they ask for is not in it, since a fault that does not happen lets every run pass.
"""

import functools
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Container
from pathlib import Path
from types import ModuleType
from typing import Any

Patch = Callable[[ModuleType], None]


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module once it is imported."""

    def __init__(self, name: str, action: Patch):
        assert name not in sys.modules, f"{name} is imported already: the fault would miss it"
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


class Current:
    """The Trainer of this rank, from its first micro batch on; see `follow`."""

    trainer: Any = None


def follow(module: ModuleType) -> None:
    """Notes the Trainer at the start of each micro batch."""
    original = module.Trainer.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        Current.trainer = self
        return original(self, *args, **kwargs)

    module.Trainer.training_step = training_step


def is_rank(rank: int) -> bool:
    """Is this process a rank of the run, and this one?"""
    return os.environ.get("RANK") == str(rank)


def due(rank: int, steps: Container[int]) -> bool:
    """Is this the rank, with so many steps done? Needs `follow`."""
    return is_rank(rank) and Current.trainer is not None and Current.trainer.state.global_step in steps


def happens(kind: str) -> bool:
    """Records that a fault happens now; False where it may happen once only, and has."""
    once = os.environ.get("FAULT_ONCE")
    if once and Path(once).exists():
        return False
    if once:
        Path(once).touch()
    with Path(os.environ["FAULT_HITS"]).open("a") as stream:
        stream.write(f"{kind}\n")
    return True


def change_loss(change: Callable[[Any, Any], Any]) -> None:
    """Changes the loss that the model itself computes in training, whatever the Trainer does with it.

    Args:
        change: gets the loss and the input_ids, and returns the loss.
    """
    from transformers import LlamaForCausalLM

    original = LlamaForCausalLM.forward

    @functools.wraps(original)  # transformers reads its parameters
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        if self.training:
            outputs.loss = change(outputs.loss, kwargs["input_ids"])
        return outputs

    LlamaForCausalLM.forward = forward
