"""Speed, memory and the state of the devices, beside the loss in a line of metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.data.batches.loader import TimedLoader
from trainyard.training.callbacks.devices import DeviceMonitor, of_all_ranks
from trainyard.training.step_samples import StepSamples

PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 peak of one device, in FLOP/s, by a part of its name; from the vendor's data sheets."""


OF_THE_LIBRARY = (
    "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "train_runtime", "train_tokens_per_second"
)  # fmt: skip
"""Speeds that the library adds to a line: they say nothing about the model, and those of the training start anew at
every resume. With include_num_input_tokens_seen the last two are in every line."""


def device_peak(name: str) -> float | None:
    """The peak of the longest entry of PEAK_FLOPS that the device's name contains; None when it is unknown."""
    matches = [key for key in PEAK_FLOPS if key in name]
    return PEAK_FLOPS[max(matches, key=len)] if matches else None


class SpeedCallback(TrainerCallback):
    """Adds to every line of metrics: tokens_seen, tokens_per_second, mfu, data_wait, memory_gib, ranks.

    `tokens_per_second` is over all ranks, by the wall clock from line to line, without evaluations and saves. `mfu` is
    the share of the devices' peak in FLOP/s. `data_wait` is the share of the time in which rank 0 waited for data.
    `ranks` has the figures of DeviceMonitor, each a list by rank. `memory_gib` is the largest peak among the ranks,
    since that rank runs out of memory first.
    """

    def __init__(self, samples: StepSamples, flops_per_token: float, world_size: int):
        self.samples = samples
        self.flops_per_token = flops_per_token
        self.world_size = world_size
        self.peak = device_peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self.monitor = DeviceMonitor()
        self._step = 0
        self._since = self._paused = self._waited = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within this context does not count as training."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)  # a resumed state holds the intervals of the old command
        self._step, self._since, self._paused = state.global_step, time.perf_counter(), 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # The Trainer sees the whole run as one pass over the loader; the epoch follows from the samples.
        state.epoch = self.samples.epochs(state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log = True  # however seldom lines are asked for, the last step's has the loss

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        for name in OF_THE_LIBRARY:
            logs.pop(name, None)
        logs["tokens_seen"] = self.samples.tokens_seen(state.global_step)
        if "loss" not in logs:
            return
        loader = kwargs["train_dataloader"]
        waited = loader.seconds_waited if isinstance(loader, TimedLoader) else 0.0
        now = time.perf_counter()
        seconds = now - self._since - self._paused
        tokens_per_second = (state.global_step - self._step) * self.samples.tokens_per_step / seconds
        logs["tokens_per_second"] = round(tokens_per_second, 1)
        logs["data_wait"] = round((waited - self._waited) / seconds, 5)
        if self.peak:
            logs["mfu"] = round(tokens_per_second * self.flops_per_token / (self.peak * self.world_size), 4)
        logs["ranks"] = of_all_ranks(self.monitor.read(), args.device)
        logs["memory_gib"] = max(logs["ranks"]["memory_gib"])
        self._step, self._since, self._paused, self._waited = state.global_step, now, 0.0, waited
