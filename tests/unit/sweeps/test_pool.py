import sys

import pytest

from trainyard.config.compose import compose
from trainyard.machine.devices import Devices
from trainyard.machine.processes import START
from trainyard.rundir.directory import run_path
from trainyard.sweeps import pool
from trainyard.sweeps.grid import Grid, Point, read

GPUS = Devices("cuda", 8, "H100", True, tuple(range(8)))


def test_devices_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    found = pool.slots(GPUS, 8, 2)
    assert [slot.gpus for slot in found] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [slot.cores for slot in found] == [tuple(range(i, i + 4)) for i in (0, 4, 8, 12)]
    assert [slot.gpus for slot in pool.slots(GPUS, 8, 3)] == [(0, 1, 2), (3, 4, 5)]
    assert [slot.gpus for slot in pool.slots(GPUS, 4, None)] == [(0, 1, 2, 3)]
    cpu = Devices("cpu", 2, "CPU", False)
    assert [(slot.devices, slot.cores) for slot in pool.slots(cpu, 2, 1)] == [
        (1, tuple(range(8))), (1, tuple(range(8, 16))),
    ]  # fmt: skip
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert [slot.cores for slot in pool.slots(cpu, 4, 2)] == [(0, 1), (0, 1)]  # fewer cores than ranks: all share them


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=glob(qwen3*)"],
        ["experiment=qwen3_1_7b_scratch,qwen3_1_7b_continue"],
        ["run.seed=1,2", 'sweep.name="it\'s"'],
        ["run.seed=1,2", "sweep.name='a b'"],
    ],
)
def test_the_sweeps_name_reaches_its_points(arguments: list[str]) -> None:
    request = read("pretrain", arguments)
    assert "[" not in request.name and "/" not in request.name
    config = compose("pretrain", pool.overrides(request.name, Grid(request).points[0]))
    assert config.run.sweep == request.name


def test_the_command_of_a_point_runs_its_stage_on_its_share() -> None:
    point = Point("seed=1", {"run.seed": "1"}, ("launch.num_devices=8", "run.seed=1"))
    names = ["run.sweep=mine", "run.name='seed=1'"]
    start = [sys.executable, START, "pretrain"]
    assert pool.command("pretrain", "mine", point, 2) == [*start, "run.seed=1", "launch.num_devices=2", *names]
    assert pool.command("pretrain", "mine", point) == [*start, "launch.num_devices=8", "run.seed=1", *names]
    config = compose("pretrain", pool.overrides("mine", point))
    assert run_path(config).parts[-3:] == ("sweeps", "mine", "seed=1")
