from pathlib import Path

import pytest

from trainyard.checks import request
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control.launchers.hostfile import read_hostfile
from trainyard.machine.devices import CPU
from trainyard.rundir.directory import RunDir


def test_a_hostfile_gives_nodes_and_ranks(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# the yard\nnode-a slots=4\nnode-b slots=4  # spare\n")
    hosts = read_hostfile(str(hostfile))
    assert hosts == {"node-a": 4, "node-b": 4}
    config = compose("pretrain", [f"launch.hostfile={hostfile}"])
    resolve(config, [], CPU, hosts)
    assert (config.launch.num_nodes, config.launch.num_devices) == (2, 4)
    assert config.trainer.gradient_accumulation_steps == 1
    hostfile.write_text("node-a four slots\n")
    assert read_hostfile(str(hostfile)) == {}


def test_a_hostfile_needs_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("node-a slots=2\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    config = compose("pretrain", [f"launch.hostfile={hostfile}", f"paths.outputs={tmp_path}"])
    resolve(config, [], CPU, {"node-a": 2})
    assert any("there is no ssh" in problem for problem in request.problems(config, CPU, RunDir(tmp_path / "run")))
