"""Moments of a training for which the Hugging Face Trainer has no method to override."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


def _nothing() -> None: ...


class Moments(TrainerCallback):
    """Calls a function at the beginning of the training, and at the beginning and the end of each step."""

    def __init__(
        self,
        *,
        train_begin: Callable[[], None] = _nothing,
        step_begin: Callable[[], None] = _nothing,
        step_end: Callable[[], None] = _nothing,
    ):
        self.train_begin, self.step_begin, self.step_end = train_begin, step_begin, step_end

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.train_begin()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_end()
