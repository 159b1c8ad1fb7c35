"""SwanLab, from rank 0 alone. A tracker that fails or does not answer is left out; training goes on."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.tracking.swanlab import SwanLabRun, complaint

PATIENCE_S = 60.0
"""Seconds that SwanLab has at the end of a run for all that it has not written or sent yet."""


WAITING = 100_000
"""Lines that may wait for SwanLab; one that has fallen so far behind is left out."""


class SwanLabCallback(TrainerCallback):
    """Sends every line of metrics to SwanLab. The experiment is opened with the first one.

    All of it is left to a thread, since a call of SwanLab may take long, or for ever: the training never waits for it,
    and the end of the run for PATIENCE_S.
    """

    def __init__(self, experiment: SwanLabRun, history: list[dict[str, Any]], say: Callable[[str], None]):
        """`history` are the lines up to the checkpoint; `say` warns."""
        self.experiment, self.history, self.say = experiment, history, say
        self.samples: list[dict[str, Any]] = []
        """Answers of before the checkpoint; see trainyard.training.callbacks.generations."""
        self._failed = False
        self._thread: threading.Thread | None = None
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "train_runtime" not in kwargs["logs"]:  # the Trainer's closing summary is not a step
            step, values = state.global_step, dict(kwargs["logs"])
            self._then("log", lambda: self.experiment.send(step, values))

    def show(self, samples: list[dict[str, Any]]) -> None:
        """Sends answers to sample prompts, all of one step, as text."""
        if samples:
            self._then("log", lambda: self.experiment.show(samples))

    def finish(self) -> None:
        """Closes the experiment, once everything is written or sent."""
        if self._thread is None or self._failed:
            return
        self._then("finish", self.experiment.close)
        self._tasks.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._leave_out(f"has not answered for {PATIENCE_S:g} s")

    def _then(self, what: str, action: Callable[[], object]) -> None:
        """Has the thread do it after all earlier ones; the first opens the experiment."""
        if self._failed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="tracker")
            self._tasks.put(lambda: self._attempt("start", lambda: self.experiment.open(self.history, self.samples)))
            self._thread.start()
        self._tasks.put(lambda: self._attempt(what, action))
        if self._tasks.qsize() > WAITING:
            self._leave_out(f"is {WAITING:,} lines behind")

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:  # whatever it is, it must not cost the run anything
            self._leave_out(f"could not {what}: {complaint(error)}")

    def _leave_out(self, reason: str) -> None:
        self._failed = True
        self.say(f"tracking is off: SwanLab {reason}")
