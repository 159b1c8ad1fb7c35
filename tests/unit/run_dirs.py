"""Run directories as the product leaves them, without training: for the tests of trainyard.runs."""

import copy
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainyard.checks.resolve import resolve
from trainyard.config import overrides as config_overrides
from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.machine.devices import CPU
from trainyard.rundir.directory import RunDir
from trainyard.rundir.metrics import MetricsFile
from trainyard.runs.history import Run, find

STEPS = 100
TOKENS_PER_STEP = 2048


@functools.cache
def _composed(stage: str, overrides: tuple[str, ...]) -> Config:
    return compose(stage, overrides)


def make_run(
    outputs: Path, name: str = "default", overrides: Sequence[str] = (), *, stage: str = "pretrain",
    state: str = "finished", final: float = 3.0, day: int = 1, held_out: bool = True, steps: int = STEPS, **status: Any,
) -> RunDir:  # fmt: skip
    """A run of 100 steps whose training loss falls from 8 to `final`, the held-out one to 0.1 above it.

    Args:
        name: of its directory; `sweeps/<sweep>/<point>` for a point.
        day: of November 2026, on which its status was written.
        status: more of status.json; None removes an entry.
    """
    run = RunDir(outputs / stage / name)
    run.logs.mkdir(parents=True)
    config = copy.deepcopy(_composed(stage, tuple(overrides)))
    config.paths.outputs, config.run.name = str(outputs), run.path.name
    resolve(config, overrides, CPU, {})
    saved.save(config, run.config)
    metrics = MetricsFile(run.metrics, None)
    for step in range(0, steps + 1, 10):
        loss = final + (8 - final) * math.exp(-step / 15)
        row: dict[str, Any] = {"tokens_seen": step * TOKENS_PER_STEP}
        if step:
            row |= {"loss": loss, "grad_norm": 1.0, "tokens_per_second": 1000.0, "ranks": {"memory_gib": [2.0, 2.5]}}
        if held_out and step % 50 == 0:
            row |= {"eval_loss": loss + 0.1, "eval_perplexity": math.exp(min(loss + 0.1, 20))}
        if step and step % 50 == 0:
            row |= {"save_stall_s": 0.01}
        metrics.write(step, row)
    known = {
        "command": config_overrides.command(stage, overrides), "state": state, "exit_code": 0, "step": steps,
        "max_steps": STEPS, "world_size": 2, "tokens_seen": steps * TOKENS_PER_STEP, "restarts": 0, "rollbacks": 0,
        "resumed_from": [], "final": {}, "seconds": 1800.0, "updated": f"2026-11-{day:02}T12:00:00+00:00",
    }  # fmt: skip
    run.write_status({key: value for key, value in (known | status).items() if value is not None})
    return run


RATES = {"1e-4": 3.4, "3e-4": 3.1, "1e-3": 2.9, "1e-2": math.nan}


def make_sweep(outputs: Path, name: str = "rates") -> dict[str, RunDir]:
    """Four learning rates, of which 1e-3 is best and 1e-2 breaks down, by two models; points by name."""
    points = {}
    for size, gain in ((96, 0.0), (192, -0.2)):
        for rate, final in RATES.items():
            point = f"learning_rate={rate},hidden_size={size}"
            overrides = [f"trainer.learning_rate={rate}", f"model.hidden_size={size}"]
            given = [*overrides, "launch.num_devices=2", f"run.sweep='{name}'", f"run.name='{point}'"]
            command = config_overrides.command("pretrain", given)
            points[point] = make_run(outputs, f"sweeps/{name}/{point}", overrides, final=final + gain, command=command)
    return points


def the_run(outputs: Path, name: str = "default") -> Run:
    """The run with a name."""
    (found,) = (run for run in find(outputs) if run.short == name)
    return found
