"""A trace of the steps that were asked for, and of no others."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainyard.config.schema import PROFILE_AFTER
from trainyard.training.callbacks.profile import ProfileCallback


def train(path: Path, steps: int, done: int, start: int = 0) -> list[str]:
    """Takes `done` steps, each with as many multiplications as its number; what the callback says."""
    said: list[str] = []
    callback = ProfileCallback(path, steps, said.append)
    args, state = SimpleNamespace(device=torch.device("cpu")), SimpleNamespace(global_step=start)
    callback.on_train_begin(args, state, None)
    for number in range(1, done + 1):
        for _ in range(number):
            torch.ones(2, 2) @ torch.ones(2, 2)
        state.global_step += 1
        callback.on_step_end(args, state, None)
    callback.on_train_end(args, state, None)
    return said


def multiplications(path: Path) -> int:
    with gzip.open(path, "rt") as stream:
        return sum(event.get("name") == "aten::mm" for event in json.load(stream)["traceEvents"])


@pytest.mark.parametrize("start", [0, 10])
def test_the_steps_after_those_that_settle(tmp_path: Path, start: int) -> None:
    path = tmp_path / "trace.json.gz"
    first = start + PROFILE_AFTER + 1
    told = f"trace of steps {first} to {first + 1}: {path}; open it with https://ui.perfetto.dev"
    assert train(path, steps=2, done=8, start=start) == [told]
    assert multiplications(path) == 4 + 5


def test_a_run_that_ends_early_leaves_what_there_is_or_says_that_there_is_nothing(tmp_path: Path) -> None:
    for start in (0, 10):
        assert train(tmp_path / "none.json.gz", steps=2, done=2, start=start) == [
            f"run.profile_steps=2: no trace, for it begins with step {start + 4}; "
            f"this start ended after step {start + 2}"
        ]
    assert not (tmp_path / "none.json.gz").exists()
    (said,) = train(tmp_path / "one.json.gz", steps=3, done=4)
    assert said.startswith("trace of steps 4 to 4: ")
    assert multiplications(tmp_path / "one.json.gz") == 4
