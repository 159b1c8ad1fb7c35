"""Requests to pretrain, checked without a launch, for the tests of trainyard.checks."""

from pathlib import Path

from trainyard.checks import request
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.machine.devices import CPU, Devices
from trainyard.rundir.directory import RunDir

H200 = Devices(kind="cuda", count=8, name="NVIDIA H200", bf16=True, indices=tuple(range(8)))


def resolved(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> Config:
    """The config of a command whose outputs lie in `tmp_path`."""
    config = compose("pretrain", [f"paths.outputs={tmp_path / 'out'}", *overrides])
    resolve(config, overrides, devices, {})
    return config


def found(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> list[str]:
    """Every mistake of a command."""
    config = resolved(tmp_path, *overrides, devices=devices)
    run = RunDir(Path(config.paths.outputs) / "pretrain" / str(config.run.name))
    return request.problems(config, devices, run)


def only(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> str:
    """The one mistake of a command."""
    problems = found(tmp_path, *overrides, devices=devices)
    assert len(problems) == 1, problems
    return problems[0]
