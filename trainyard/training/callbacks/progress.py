"""trainyard.training.callbacks.progress."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.rundir.messages import Phase
from trainyard.rundir.metrics import MetricsFile
from trainyard.rundir.rank import Rank


class ProgressCallback(TrainerCallback):
    """Rank 0: metrics.jsonl, progress.json, and the lines on the screen."""

    def __init__(self, worker: Rank, metrics: MetricsFile, tokens_per_step: int):
        self.worker, self.metrics, self.tokens_per_step = worker, metrics, tokens_per_step
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started, self._first_step = time.monotonic(), state.global_step
        self._note(state, Phase.TRAINING, now=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._note(state, Phase.TRAINING)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = {key: value for key, value in kwargs["logs"].items() if key != "total_flos"}
        if "train_runtime" in logs:  # the Trainer's closing summary is not a step
            return
        self.metrics.write(state.global_step, logs)
        if "loss" in logs:
            news = {"loss": logs["loss"], "tokens_per_second": logs.get("tokens_per_second")}
            self._note(state, Phase.TRAINING, now=True, **news)
        if "eval_loss" in logs:
            self.worker.say(
                f"step {state.global_step}: held-out loss {logs['eval_loss']:.4f}, "
                f"perplexity {logs['eval_perplexity']:.2f}"
            )

    def _note(self, state: TrainerState, phase: str, now: bool = False, **news: Any) -> None:
        done = state.global_step - self._first_step
        left = state.max_steps - state.global_step
        eta = (time.monotonic() - self._started) / done * left if done else None
        step = state.global_step
        self.worker.note(
            now=now, phase=phase, step=step, max_steps=state.max_steps, tokens_seen=step * self.tokens_per_step,
            eta_s=eta, **news,
        )  # fmt: skip
