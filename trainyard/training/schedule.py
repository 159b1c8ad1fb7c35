"""The place of a step on the schedule of the learning rate, which follows the samples when the global batch changes."""

from dataclasses import replace
from pathlib import Path

from trainyard.checkpoint.directory import STATE
from trainyard.checkpoint.manifest import Manifest
from trainyard.checkpoint.rank_state import RankState, ScheduleState
from trainyard.data.batches.loader import BatchLayout
from trainyard.files import read_json


def of_checkpoint(checkpoint: Path, state: RankState | None) -> ScheduleState | None:
    """The schedule under which a checkpoint was written; None where the checkpoint does not tell."""
    if state is not None and state.schedule is not None:
        return state.schedule
    manifest, max_steps = Manifest.read(checkpoint), read_json(checkpoint / STATE).get("max_steps")
    if manifest is None or not manifest.step or not manifest.samples_seen or not max_steps:
        return None
    return ScheduleState(manifest.samples_seen // manifest.step, max_steps, total=max_steps)  # of version 0.1


def begin(batch_layout: BatchLayout, max_steps: int) -> ScheduleState:
    """The schedule of a run of `max_steps` steps: every step has its own place."""
    return ScheduleState(batch_layout.global_batch, max_steps, total=max_steps)


def go_on(before: ScheduleState, batch_layout: BatchLayout, step: int, max_steps: int) -> ScheduleState:
    """The schedule of a run that goes on from a step, maybe with another global batch, another length or both.

    With another global batch the rate goes on from where it was, and what remains of the schedule is laid over what
    remains of the run. With another length alone, or when nothing remains, the rate jumps to where it would be in a run
    of that length.
    """
    global_batch = batch_layout.global_batch
    if (before.global_batch, before.max_steps) == (global_batch, max_steps):
        return before
    reached = place(before, step)
    if before.global_batch != global_batch and reached < before.total:
        return ScheduleState(global_batch, max_steps, before.total, first_step=step, first_place=reached)
    if reached == step:
        return begin(batch_layout, max_steps)
    total = round(reached + max_steps - step)
    return replace(before, max_steps=max_steps, total=total, first_step=step, first_place=total - (max_steps - step))


def jump(old: float, new: float, before: ScheduleState | None, now: ScheduleState) -> str:
    """Says that the learning rate jumps, and why if the run has another length than before."""
    longer = before is not None and before.max_steps != now.max_steps
    why = f": the run had {before.max_steps:,} steps, and now has {now.max_steps:,}" if before and longer else ""
    return f"the learning rate jumps from {old:.3g} to {new:.3g}{why}"


def place(schedule: ScheduleState, step: int) -> float:
    """The place of a step on a schedule of `total` places; a whole number where each further step is one place."""
    steps, places = schedule.max_steps - schedule.first_step, schedule.total - schedule.first_place
    done = step - schedule.first_step
    if steps <= 0:
        return schedule.total
    return schedule.first_place + (done if steps == places else done * places / steps)


def stretch(scheduler: object, schedule: ScheduleState) -> None:
    """Has a new scheduler of PyTorch look up each step's place, in place. One of DeepSpeed's own counts steps alone."""
    factors = getattr(scheduler, "lr_lambdas", None)
    if factors is None or place(schedule, schedule.max_steps - 1) == schedule.max_steps - 1:
        return
    # Functions: a scheduler saves the attributes of any other callable, and would load them again.
    scheduler.lr_lambdas = [  # type: ignore[attr-defined]
        lambda step, factor=factor: factor(place(schedule, step)) for factor in factors
    ]
