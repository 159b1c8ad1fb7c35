"""A launch on the nodes of a hostfile: on each, over ssh, launchers/node.py starts DeepSpeed's launcher and follows it.

DeepSpeed's own way to several nodes, pdsh, hands environment and paths to a remote shell unquoted, and the ranks live
on when the connection is lost. Here the command line over ssh is the same for every run. Everything else goes through
ssh's standard input; when that ends or falls silent, the node knows that the controller is gone.
"""

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from trainyard.config.schema import Config
from trainyard.control.launchers import hostfile
from trainyard.control.launchers.node_request import NodeRequest
from trainyard.machine import ports, signals
from trainyard.machine.processes import python
from trainyard.rundir.directory import RunDir

SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30")

ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""A node that does not answer for a minute is gone."""

GONE = 255
"""The exit code of ssh when there is no connection, or when the remote command was killed."""

END_S = 5.0
"""Seconds in which the nodes end what is left of the ranks, before the connections are cut."""

BEAT_S = 10.0
"""Seconds between two signs of life for the nodes, see node.SILENCE_S."""

OF_ONE_MACHINE = re.compile(
    r"(SSH|SLURM|DBUS)_.*|XDG_(RUNTIME_DIR|SESSION_.*|SEAT.*|VTNR|CURRENT_DESKTOP)|CUDA_VISIBLE_DEVICES|HOME|HOST(NAME)?|"
    r"USER|LOGNAME|MAIL|SHELL|SHLVL|PWD|OLDPWD|TERM|DISPLAY|TMPDIR|_"
)
"""Environment variables that mean nothing on another machine."""


@dataclass
class SshLaunch:
    """The connections to the nodes, by host in the order of the node ranks; see launch.Launch."""

    nodes: dict[str, subprocess.Popen[bytes]]

    @property
    def code(self) -> int | None:
        """The exit code of the first node that failed; 0 when all succeeded; None while a node runs."""
        codes = [ssh.poll() for ssh in self.nodes.values()]
        return None if None in codes else next(filter(None, codes), 0)

    @property
    def failed(self) -> bool:
        """Has any node ended with an error?"""
        return any(ssh.poll() for ssh in self.nodes.values())

    @property
    def lost(self) -> list[str]:
        """Nodes that are gone, or cannot be reached."""
        return [host for host, ssh in self.nodes.items() if ssh.poll() == GONE]

    def own_processes(self) -> list[int]:
        """The connections: a stop signal to one of them is meant for the run."""
        return [ssh.pid for ssh in self.nodes.values()]

    def beat(self) -> None:
        """Sends signs of life to the nodes until all connections have ended."""
        while self.code is None:
            for ssh in self.nodes.values():
                with contextlib.suppress(OSError, ValueError):  # the connection has ended, or its input is closed
                    _send(ssh, b"\n")
            time.sleep(BEAT_S)

    def end(self) -> None:
        """Asks each node to end its ranks, and cuts the connections that are still open after END_S."""
        for ssh in self.nodes.values():
            with contextlib.suppress(OSError):
                assert ssh.stdin is not None
                ssh.stdin.close()
        deadline = time.monotonic() + END_S
        for ssh in self.nodes.values():
            try:
                ssh.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                ssh.kill()
                ssh.wait()


def start(config: Config, run: RunDir, resume: Path | None) -> SshLaunch:
    """Starts the ranks on all nodes. The output of ssh and of the nodes goes to the launcher's log."""
    hosts = list(hostfile.read_hostfile(config.launch.hostfile))
    command = f"exec {shlex.join(python('trainyard.control.launchers.node'))}"
    request = NodeRequest(
        environment=shared_environment(),
        directory=str(Path.cwd()),
        run=str(run.path),
        checkpoint=str(resume) if resume else None,
        master_addr=config.launch.master_addr or hosts[0].rpartition("@")[2],
        master_port=config.launch.master_port or ports.free_port(),
        node_rank=0,
    )
    launch = SshLaunch({})
    with run.launcher_log.open("wb") as log, signals.held_back():
        for rank, host in enumerate(hosts):
            ssh = subprocess.Popen(
                [*SSH, *ALIVE, "--", host, command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            launch.nodes[host] = ssh
            with contextlib.suppress(OSError):  # the connection has ended already, and its exit code tells why
                _send(ssh, dataclasses.replace(request, node_rank=rank).line())
    threading.Thread(target=launch.beat, daemon=True, name="signs-of-life").start()
    return launch


def _send(ssh: subprocess.Popen[bytes], line: bytes) -> None:
    assert ssh.stdin is not None
    ssh.stdin.write(line)
    ssh.stdin.flush()


def shared_environment() -> dict[str, str]:
    """The controller's environment without the variables of its machine and of its login there."""
    return {name: value for name, value in os.environ.items() if not OF_ONE_MACHINE.fullmatch(name)}
