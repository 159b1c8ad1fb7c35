"""Loading a checkpoint that another number of ranks wrote, under another ZeRO stage, or with other settings."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import transformers
import xxhash
from torch.optim import Adam, AdamW, Optimizer
from transformers.trainer_pt_utils import safe_globals

from trainyard import checkpoint
from trainyard.conversion import LATEST, MOMENTS, SCHEDULE, WEIGHTS, convert
from trainyard.data.loader import Split
from trainyard.rundir import read_json
from trainyard.saving import Saver
from trainyard.worker import FinalError, Worker

Settings = list[dict[str, Any]]
"""Of an optimizer: for each of its groups, everything but the parameters."""


class Restoring(transformers.Trainer):
    """A Trainer that loads whatever the run left, with the settings that the command has now."""

    split: Split
    start_step: int
    worker: Worker
    saver: Saver

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if optimizer is None:  # it is the Trainer's own, and nothing has been loaded yet
            self._settings = settings_of(self.optimizer)
        return scheduler

    def _load_optimizer_and_scheduler(self, found: str | None) -> None:
        """Comes last: DeepSpeed has loaded its states, or the Trainer its weights."""
        super()._load_optimizer_and_scheduler(found)
        if found is None:
            return
        if is_universal(Path(found)):
            self._finish_universal(Path(found))
        apply_settings(self.optimizer, self.lr_scheduler, self._settings)

    def _finish_universal(self, found: Path) -> None:
        """What is still missing of a universal checkpoint: under DDP all states, under DeepSpeed the buffers."""
        if self.is_deepspeed_enabled:
            self._expect_universal(False)  # the next may be one of this run's own
            load_buffers(found, self.model)
        else:
            load_states(found, self.model, self.optimizer)
            self.lr_scheduler.load_state_dict(_read(found / SCHEDULE))
        set_step_counters(_innermost(self.optimizer))

    def _expect_universal(self, expected: bool) -> None:
        self.model_wrapped._config.load_universal_checkpoint = expected

    def _load_best_model(self) -> None:
        """The best checkpoint may be older than the last change of ranks, and need a conversion of its own."""
        best, layout = Path(self.state.best_model_checkpoint), self.saver.layout
        if layout is None or checkpoint.fits(best, layout, self.split.world_size):
            super()._load_best_model()
            return
        self.worker.note(now=True, phase="converting the best checkpoint")
        target = self.worker.run_dir.converted / "best" / best.name
        if self.split.rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            self._require_convertible(best)
            convert(best, target, fp16=layout["precision"] == "fp16")
        dist.barrier()
        self._expect_universal(True)
        self.state.best_model_checkpoint = str(target)
        super()._load_best_model()
        self.state.best_model_checkpoint = str(best)
        self._expect_universal(False)

    def _require_convertible(self, best: Path) -> None:
        if reason := checkpoint.verify(best):
            raise FinalError(f"{best}: the best checkpoint cannot be loaded, {reason}; the last one is untouched")
        needed, what = checkpoint.state_bytes(best), f"the conversion of {best.name}"
        if problem := checkpoint.lack_of_space(self.saver.directory, needed, what):
            raise FinalError(problem)

    def _load_rng_state(self, found: str | None) -> None:
        if found is None or written_by(Path(found)) == self.split.world_size:
            super()._load_rng_state(found)
        else:
            restore_randomness(Path(found), self.split, seed=self.args.seed, step=self.start_step)


def is_universal(found: Path) -> bool:
    """Is it one that trainyard.conversion made?"""
    return (found / LATEST).is_file()


def settings_of(optimizer: Any) -> Settings:
    """Of a new optimizer, with its first learning rate as initial_lr."""
    changing = ("params", "lr", "step")
    return [{key: value for key, value in group.items() if key not in changing} for group in optimizer.param_groups]


def apply_settings(optimizer: Any, scheduler: Any, settings: Settings) -> None:
    """Learning rate, weight decay and the like as this command has them, for a checkpoint brings those of its own run.

    Where nothing was changed, nothing changes.
    """
    for group, wanted in zip(optimizer.param_groups, settings, strict=True):
        group.update(wanted)
    schedule = getattr(scheduler, "scheduler", scheduler)  # without Accelerate's wrapper
    if not hasattr(schedule, "lr_lambdas"):
        return
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    schedule._last_lr = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


def load_states(found: Path, model: torch.nn.Module, optimizer: Any) -> None:
    """Weights, moments and learning rate, for ranks that each hold all of them, as under DDP."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    common = _read(_states(found) / "optimizer_state.pt")
    for group in optimizer.param_groups:
        group["lr"] = common["param_groups"][0]["lr"]
        for parameter in group["params"]:
            place = _states(found) / names[parameter]
            parameter.data.copy_(_read(place / f"{WEIGHTS}.pt")["param"])
            moments = {key: _read(place / f"{key}.pt")["param"].to(parameter.device) for key in MOMENTS}
            optimizer.state[parameter] = {"step": _read(place / "step.pt"), **moments}


def load_buffers(found: Path, model: torch.nn.Module) -> None:
    buffers = dict(model.named_buffers())
    for name, saved in _read(_states(found).with_name("mp_rank_00_model_states.pt"))["module"].items():
        buffers[name].copy_(saved)


def set_step_counters(adam: Optimizer) -> None:
    """Steps as this Adam counts them. PyTorch's does in a tensor, beside the parameter where a kernel reads it."""
    on_device = any(group.get("fused") or group.get("capturable") for group in adam.param_groups)
    for parameter, state in adam.state.items():
        step = float(state["step"])
        tensor = torch.tensor(step, device=parameter.device if on_device else None)
        state["step"] = tensor if isinstance(adam, Adam | AdamW) else int(step)


def restore_randomness(found: Path, split: Split, *, seed: int, step: int) -> None:
    """Goes on with the random state of the rank of this number; a new rank begins from seed, rank and step."""
    alone = written_by(found) == 1 and split.rank == 0
    file = found / ("rng_state.pth" if alone else f"rng_state_{split.rank}.pth")
    if not file.is_file():
        transformers.set_seed(xxhash.xxh3_64_intdigest(f"{seed} {split.rank} {step}".encode()) % 2**32)
        return
    with safe_globals():
        states = _read(file)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        of_devices = states["cuda"] if isinstance(states["cuda"], list) else [states["cuda"]]
        torch.cuda.set_rng_state(of_devices[int(os.environ["LOCAL_RANK"]) % len(of_devices)])


def written_by(found: Path) -> int | None:
    """The number of ranks that wrote a checkpoint."""
    ranks: int | None = read_json(found / checkpoint.MANIFEST).get("world_size")
    return ranks


def _states(found: Path) -> Path:
    return found / (found / LATEST).read_text() / "zero"


def _innermost(optimizer: Any) -> Optimizer:
    """The optimizer within the wrappers of Accelerate and DeepSpeed."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    assert isinstance(optimizer, Optimizer)
    return optimizer


def _read(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)
