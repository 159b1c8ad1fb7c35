"""A trace of a few steps: where the time of a step goes, kernel by kernel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, schedule
from transformers import TrainerCallback

from trainyard.config.schema import PROFILE_AFTER


class ProfileCallback(TrainerCallback):
    """Rank 0: traces `steps` optimizer steps with torch.profiler, after PROFILE_AFTER others.

    The trace is JSON in the format of Chrome's tracing, compressed; https://ui.perfetto.dev opens it. Evaluations and
    saves between the steps are part of it. The traced steps take longer than others.
    """

    def __init__(self, path: Path, steps: int, say: Callable[[str], None]):
        self.path, self.steps, self.say = path, steps, say

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._first = state.global_step + PROFILE_AFTER + 1
        self._written = False
        self._profile = profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if args.device.type == "cuda" else [])],
            schedule=schedule(wait=PROFILE_AFTER - 1, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=self._write,
            acc_events=True,
        )
        self._profile.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last = min(state.global_step, self._first + self.steps - 1)
        self._profile.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._profile.stop()  # writes what there is of a run that ended early
        if not self._written:
            self.say(
                f"run.profile_steps={self.steps}: no trace, for it begins with step {self._first}; "
                f"this start ended after step {state.global_step}"
            )

    def _write(self, done: profile) -> None:
        self._written = True
        done.export_chrome_trace(str(self.path))
        steps = f"trace of steps {self._first} to {self._last}"
        self.say(f"{steps}: {self.path}; open it with https://ui.perfetto.dev")
