"""SwanLab, from rank 0 alone. A tracker that fails or does not answer is left out; training goes on."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.schema import TrackingConfig

MODES: dict[str, Any] = {"local": "local", "cloud": "online", "offline": "offline", "disabled": "disabled"}
"""tracking.mode to SwanLab's own names."""

GROUPS = {
    "loss": "train",
    "grad_norm": "train",
    "learning_rate": "train",
    "epoch": "train",
    "tokens_per_second": "speed",
    "mfu": "speed",
    "data_wait": "speed",
    "tokens_seen": "speed",
    "save_stall_s": "speed",
    "memory_gib": "memory",
}
"""The section of the dashboard in which a metric is drawn; eval_* go to eval."""

PATIENCE_S = 60.0
"""Seconds that SwanLab has at the end of a run for all that it has not written or sent yet."""
WAITING = 100_000
"""Lines that may wait for SwanLab; one that has fallen so far behind is left out."""


def chart_name(metric: str) -> str:
    """`loss` -> `train/loss`, `eval_loss` -> `eval/loss`."""
    if metric.startswith("eval_"):
        return f"eval/{metric.removeprefix('eval_')}"
    return f"{GROUPS.get(metric, 'train')}/{metric}"


class SwanLabCallback(TrainerCallback):
    """Sends every line of metrics to SwanLab. The experiment is opened with the first one.

    All of it is left to a thread, since a call of SwanLab may take long, or for ever: the training never waits for it,
    and the end of the run for PATIENCE_S.

    In local and offline mode SwanLab cannot continue a run, so a resumed one is a new experiment that first repeats
    the `history` up to its checkpoint: its curves are whole.
    """

    def __init__(
        self, settings: TrackingConfig, name: str, log_dir: Path, config: dict[str, Any], say: Callable[[str], None]
    ):
        """`log_dir` receives the files of local and offline runs; `config` is shown with the run; `say` warns."""
        self.settings, self.name, self.log_dir, self.config, self.say = settings, name, log_dir, config, say
        self.history: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        """Answers of before the checkpoint; see trainyard.callbacks.samples."""
        self._run: Any = None
        self._failed = False
        self._thread: threading.Thread | None = None
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "train_runtime" not in kwargs["logs"]:  # the Trainer's closing summary is not a step
            step, values = state.global_step, dict(kwargs["logs"])
            self._then("log", lambda: self._send(step, values))

    def show(self, samples: list[dict[str, Any]]) -> None:
        """Sends answers to sample prompts, all of one step, as text."""
        if samples:
            self._then("log", lambda: self._send_texts(samples))

    def finish(self) -> None:
        """Closes the experiment, once everything is written or sent."""
        if self._thread is None or self._failed:
            return
        self._then("finish", self._close)
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
            self._tasks.put(lambda: self._attempt("start", self._start))
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
            reason = (str(error).strip() or "no message").splitlines()[0]
            self._leave_out(f"could not {what}: {type(error).__name__}: {reason}")

    def _leave_out(self, reason: str) -> None:
        self._failed = True
        self.say(f"tracking is off: SwanLab {reason}")

    def _start(self) -> None:
        import swanlab

        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._run = swanlab.init(
            project=self.settings.project,
            workspace=self.settings.workspace,
            name=self.name,
            config=self.config,
            mode=MODES[self.settings.mode],
            log_dir=str(self.log_dir),
            tags=self.settings.tags or None,
        )
        for row in self.history:
            self._send(row["step"], {key: value for key, value in row.items() if key != "step"})
        if self.samples:
            self._send_texts(self.samples)

    def _send(self, step: int, values: dict[str, Any]) -> None:
        numbers = {chart_name(key): value for key, value in values.items() if isinstance(value, int | float)}
        self._run.log(numbers, step=step)

    def _send_texts(self, samples: list[dict[str, Any]]) -> None:
        import swanlab

        texts = [swanlab.Text(_described(row), caption=f"sample {i}") for i, row in enumerate(samples, 1)]
        self._run.log({"samples/answers": texts}, step=samples[0]["step"])

    def _close(self) -> None:
        import swanlab

        swanlab.finish()


def _described(sample: dict[str, Any]) -> str:
    ending = "" if sample["finished"] else " [...]"
    return f"{sample['prompt']}\n\n--- model ---\n{sample['response']}{ending}\n\n--- data ---\n{sample['reference']}"
