"""The tracker of a run, on rank 0. If it fails or does not answer, the run goes on without it."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.tracking.tracker import Rows, Tracker, complaint

PATIENCE_S = 60.0
"""Seconds that the tracker has at the end of a run to write or send the rest."""

WAITING = 100_000
"""Lines that may wait for the tracker; when more wait, the run goes on without it."""


class TrackerCallback(TrainerCallback):
    """Sends every line of metrics to a tracker, which is opened with the first line.

    A call of a tracker may take long, or for ever, so a thread makes all of them. The training never waits for it, and
    the end of the run waits for PATIENCE_S.
    """

    def __init__(self, tracker: Tracker, history: Callable[[], Rows], say: Callable[[str], None]):
        """
        Args:
            history: reads the lines of metrics.jsonl up to the checkpoint that the tracker shows; called in the thread.
            say: shows a warning to the user.
        """
        self.tracker, self.history, self.say = tracker, history, say
        self.samples: Rows = []
        """Answers from before the checkpoint; see trainyard.training.callbacks.generations."""
        self._failed = False
        self._thread: threading.Thread | None = None
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "train_loss" not in kwargs["logs"]:  # the Trainer's closing summary is not a step
            step, values = state.global_step, dict(kwargs["logs"])
            self._then("log", lambda: self.tracker.send(step, values))

    def show(self, samples: Rows) -> None:
        """Sends answers to sample prompts, all of one step."""
        if samples:
            self._then("log", lambda: self.tracker.show(samples))

    def finish(self) -> None:
        """Closes the tracker, once everything is written or sent."""
        if self._thread is None or self._failed:
            return
        self._then("finish", self.tracker.close)
        self._tasks.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._leave_out(f"has not answered for {PATIENCE_S:g} s")

    def _then(self, what: str, action: Callable[[], object]) -> None:
        """Lets the thread do it after everything earlier; the first call opens the tracker."""
        if self._failed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="tracker")
            self._tasks.put(lambda: self._attempt("start", lambda: self.tracker.open(self.history(), self.samples)))
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
        except Exception as error:  # a tracker may raise anything, and no error of it may cost the run
            self._leave_out(f"could not {what}: {complaint(error)}")

    def _leave_out(self, reason: str) -> None:
        self._failed = True
        self.say(f"tracking is off: {self.tracker.name} {reason}")
