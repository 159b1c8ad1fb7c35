"""Progress of a run for people and the controller, written by rank 0."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.rundir.messages import Phase
from trainyard.rundir.metrics import MetricsFile
from trainyard.rundir.rank import Rank
from trainyard.training.step_samples import StepSamples


class ProgressCallback(TrainerCallback):
    """Writes metrics.jsonl and progress.json, and says the held-out loss on the screen; on rank 0 alone."""

    def __init__(self, rank: Rank, metrics: MetricsFile, samples: StepSamples):
        self.rank, self.metrics, self.samples = rank, metrics, samples
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
        if "train_loss" in logs:  # the Trainer's closing summary is not a step
            return
        self.metrics.write(state.global_step, logs)
        if "loss" in logs:
            news = {"loss": logs["loss"], "tokens_per_second": logs.get("tokens_per_second")}
            self._note(state, Phase.TRAINING, now=True, **news)
        if "eval_loss" in logs:
            perplexity = f", perplexity {logs['eval_perplexity']:.2f}" if "eval_perplexity" in logs else ""
            self.rank.say(f"step {state.global_step}: held-out loss {logs['eval_loss']:.4f}{perplexity}")

    def _note(self, state: TrainerState, phase: str, now: bool = False, **news: Any) -> None:
        done = state.global_step - self._first_step
        left = state.max_steps - state.global_step
        eta = (time.monotonic() - self._started) / done * left if done else None
        step = state.global_step
        self.rank.note(
            now=now, phase=phase, step=step, max_steps=state.max_steps, tokens_seen=self.samples.tokens_seen(step),
            eta_s=eta, **news,
        )  # fmt: skip
