from pathlib import Path

import pytest

from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control.launchers import local
from trainyard.machine.devices import CPU, Devices
from trainyard.rundir.directory import RunDir


def test_the_command_carries_two_paths_and_no_other_override(tmp_path: Path) -> None:
    overrides = ["trainer.learning_rate=0.123", "tracking.project='$(touch pwned)'", f"paths.outputs={tmp_path}"]
    config = compose("pretrain", overrides)
    resolve(config, overrides, CPU, {})
    run = RunDir(tmp_path / "run")
    arguments = local.command(config, CPU, run, tmp_path / "checkpoint-7")
    assert arguments[-4:] == ["--module", "pretrain.train", str(run.config), str(tmp_path / "checkpoint-7")]
    assert "--no_local_rank" in arguments
    assert "--num_gpus=2" in arguments
    assert config.tracking.project == "$(touch pwned)"
    assert not any("pwned" in argument or "0.123" in argument for argument in arguments)


def test_visible_gpus_are_named_because_deepspeed_would_count_from_zero(tmp_path: Path) -> None:
    devices = Devices(kind="cuda", count=3, name="H200", bf16=True, indices=(2, 5, 7))
    config = compose("pretrain", ["launch.num_devices=2"])
    resolve(config, [], devices, {})
    arguments = local.command(config, devices, RunDir(tmp_path), None)
    assert "--include=localhost:2,5" in arguments
    assert not any(argument.startswith("--num_gpus") for argument in arguments)


def test_threads_are_shared_among_cpu_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    config = compose("pretrain", ["launch.num_devices=2"])
    env = local.environment(config, CPU)
    assert env["OMP_NUM_THREADS"] == "4"
    assert env["DS_ACCELERATOR"] == "cpu"
    gpu = Devices(kind="cuda", count=2, name="H200", bf16=True)
    assert "DS_ACCELERATOR" not in local.environment(config, gpu)
