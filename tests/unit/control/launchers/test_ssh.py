import subprocess
import sys
import time

import pytest

from trainyard.control.launchers import ssh
from trainyard.control.launchers.launch import Launch
from trainyard.control.launchers.ssh import GONE, SshLaunch


def connection(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def test_a_launch_has_the_code_of_the_first_node_that_failed() -> None:
    stays = "import sys; sys.stdin.read()"
    nodes = {"a": connection(stays), "b": connection(f"exit({GONE})"), "c": connection("exit(3)")}
    launch: Launch = SshLaunch(nodes)
    nodes["b"].wait()
    nodes["c"].wait()
    assert (launch.code, launch.failed, launch.lost) == (None, True, ["b"])
    assert launch.own_processes() == [node.pid for node in nodes.values()]
    launch.end()  # closes the inputs
    assert (launch.code, nodes["a"].returncode) == (GONE, 0)


def test_a_node_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "END_S", 0.2)
    launch = SshLaunch({"a": connection("import time; time.sleep(60)")})
    started = time.monotonic()
    launch.end()
    launch.end()
    assert launch.code == -9 and time.monotonic() - started < 10


def test_other_nodes_get_the_environment_without_what_belongs_to_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"HOME": "/home/here", "SSH_AUTH_SOCK": "/tmp/agent", "SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "3"}
    shared = {"SWANLAB_API_KEY": "key", "NCCL_SOCKET_IFNAME": "ib0", "PATH": "/venv/bin", "HOME_OF_DATA": "/data"}
    for name, value in (own | shared).items():
        monkeypatch.setenv(name, value)
    environment = ssh.shared_environment()
    assert shared.items() <= environment.items()
    assert not own.keys() & environment.keys()
