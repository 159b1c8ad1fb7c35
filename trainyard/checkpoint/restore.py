"""Loads the states that the Trainer and DeepSpeed do not: after a change of ranks, of the ZeRO stage or of settings."""

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import xxhash
from torch.optim import Adam, AdamW, Optimizer
from transformers.trainer_pt_utils import safe_globals

from trainyard.checkpoint.convert import LATEST, MOMENTS, WEIGHTS
from trainyard.checkpoint.manifest import Manifest
from trainyard.data.batches.loader import BatchLayout

Settings = list[dict[str, Any]]
"""For each group of an optimizer, all of its values but the parameters."""


def is_universal(found: Path) -> bool:
    """Was this checkpoint made by trainyard.checkpoint.convert?"""
    return (found / LATEST).is_file()


def settings_of(optimizer: Any) -> Settings:
    """The settings of a new optimizer, with the first learning rate as initial_lr.

    Values that change in training are states and none of them: a schedule-free optimizer counts its steps and its
    weights here, and notes at which of its points the weights are.
    """
    changing = ("params", "lr", "step", "k", "train_mode", "weight_sum", "lr_max", "scheduled_lr")
    return [{key: value for key, value in group.items() if key not in changing} for group in optimizer.param_groups]


def apply_settings(optimizer: Any, scheduler: Any, settings: Settings) -> tuple[float, float] | None:
    """Replaces the learning rate, weight decay and the like of a loaded checkpoint by those of this command.

    Where the command has the same settings, every bit stays.

    Returns:
        The learning rate of the next step before and after; None where it stays, and for a schedule of DeepSpeed's own.
    """
    for group, wanted in zip(optimizer.param_groups, settings, strict=True):
        group.update(wanted)
    schedule = getattr(scheduler, "scheduler", scheduler)  # without Accelerate's wrapper
    if not hasattr(schedule, "lr_lambdas"):
        return None
    before = schedule._last_lr[0]
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    schedule._last_lr = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate
    after = schedule._last_lr[0]
    return None if math.isclose(before, after, rel_tol=1e-6) else (before, after)


def load_states(found: Path, model: torch.nn.Module, optimizer: Any) -> None:
    """Loads weights, moments and the learning rate from a universal checkpoint, on a rank that holds them all (DDP)."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    common = read_states(_states(found) / "optimizer_state.pt")
    for group in optimizer.param_groups:
        group["lr"] = common["param_groups"][0]["lr"]
        for parameter in group["params"]:
            place = _states(found) / names[parameter]
            parameter.data.copy_(read_states(place / f"{WEIGHTS}.pt")["param"])
            moments = {key: read_states(place / f"{key}.pt")["param"].to(parameter.device) for key in MOMENTS}
            optimizer.state[parameter] = {"step": read_states(place / "step.pt"), **moments}


def load_buffers(found: Path, model: torch.nn.Module) -> None:
    """Loads the model's buffers from a universal checkpoint, which DeepSpeed leaves as they are."""
    buffers = dict(model.named_buffers())
    for name, saved in read_states(_states(found).with_name("mp_rank_00_model_states.pt"))["module"].items():
        buffers[name].copy_(saved)


def set_step_counters(adam: Optimizer) -> None:
    """Gives the step counters the type of this Adam: PyTorch's are tensors, on the device when its kernel is there."""
    on_device = any(group.get("fused") or group.get("capturable") for group in adam.param_groups)
    for parameter, state in adam.state.items():
        step = float(state["step"])
        tensor = torch.tensor(step, device=parameter.device if on_device else None)
        state["step"] = tensor if isinstance(adam, Adam | AdamW) else int(step)


def restore_randomness(found: Path, batch_layout: BatchLayout, *, seed: int, step: int) -> None:
    """Restores the random state of the rank with the same number; a new rank takes one from seed, rank and step."""
    manifest = Manifest.read(found)
    alone = manifest is not None and manifest.world_size == 1 and batch_layout.rank == 0
    file = found / ("rng_state.pth" if alone else f"rng_state_{batch_layout.rank}.pth")
    if not file.is_file():
        transformers.set_seed(xxhash.xxh3_64_intdigest(f"{seed} {batch_layout.rank} {step}".encode()) % 2**32)
        return
    with safe_globals():
        states = read_states(file)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        of_devices = states["cuda"] if isinstance(states["cuda"], list) else [states["cuda"]]
        torch.cuda.set_rng_state(of_devices[int(os.environ["LOCAL_RANK"]) % len(of_devices)])


def _states(found: Path) -> Path:
    return found / (found / LATEST).read_text() / "zero"


def innermost(optimizer: Any) -> Optimizer:
    """The optimizer inside the wrappers of Accelerate and DeepSpeed."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    assert isinstance(optimizer, Optimizer)
    return optimizer


def read_states(file: Path) -> Any:
    """The content of a pickle of a checkpoint, on the CPU; only data is loaded, never code."""
    return torch.load(file, map_location="cpu", weights_only=True)
