"""Two nodes on one machine: each has namespaces for network, processes and host name, and an sshd; a cable joins them.

They share the file system, as the nodes of a cluster do. Keys and configuration lie in a temporary directory, and
nothing outside of it is written. A node ends with its first process.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

UNSHARE = ["unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]
SSHD = "/usr/sbin/sshd"
NAMES = ("node-a", "node-b")
INIT = f"""
set -e
hostname "$1"
cd "$2"
mount --bind hosts /etc/hosts
mount --bind ssh_config /etc/ssh/ssh_config
mount -t tmpfs tmpfs /run
mkdir /run/sshd
ip link set lo up
while :; do {SSHD} -D -E "$1.log" -f sshd_config & wait $! || sleep 0.1; done
"""
"""The script of a node's first process, which starts sshd again when everything on the node was killed: a reboot."""


@dataclass
class Node:
    """A node, while its first process lives."""

    name: str
    first: int
    """The process id of its first process, as seen from outside."""

    def enter(self, *arguments: str, directory: Path) -> list[str]:
        """The command line that runs a command on this node in a directory, with the exit code of that command."""
        spaces = ["--net", "--uts", "--pid", "--mount"]
        return ["nsenter", "--target", str(self.first), *spaces, f"--wd={directory}", *arguments]

    def processes(self) -> list[psutil.Process]:
        """All processes on the node, without the first one and the sshd that it keeps up."""
        space = Path(f"/proc/{self.first}/ns/pid").stat().st_ino
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                here = Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == space and process.pid != self.first
                kept_up = process.ppid() == self.first and process.name() in ("sshd", "sleep", "bash")
                if here and not kept_up and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """The command lines of the processes on the node, connections included."""
        running = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                running.append(" ".join(process.cmdline()) or process.name())
        return running

    def kill(self) -> None:
        """Sends SIGKILL to all processes of the node at once, to sshd too."""
        subprocess.run(self.enter("bash", "-c", "kill -KILL -1", directory=Path("/")), check=False)

    def plug(self, state: str) -> None:
        """Pulls the node's cable (`down`) or plugs it in (`up`). Neither closes a connection."""
        _run(*self.enter("ip", "link", "set", "eth0", state, directory=Path("/")))


def why_not() -> str | None:
    """Why this machine cannot hold two nodes; None when it can."""
    for program in ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", SSHD):
        if shutil.which(program) is None:
            return f"needs {program}"
    trial = "mount -t tmpfs tmpfs /run && hostname trial && ip link add trial type veth peer name other"
    done = subprocess.run([*UNSHARE, "bash", "-c", trial], capture_output=True, text=True)
    return f"namespaces are not allowed here: {done.stderr.strip()}" if done.returncode else None


@contextlib.contextmanager
def two_nodes(directory: Path) -> Iterator[tuple[Node, Node]]:
    """Starts node-a and node-b, which reach each other and themselves over ssh by name, and no other machine."""
    _configure(directory)
    with contextlib.ExitStack() as stack:
        first, second = nodes = [stack.enter_context(_node(name, directory)) for name in NAMES]
        ends = [f"{name[-1]}{os.getpid()}" for name in NAMES]
        _run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for number, (node, end) in enumerate(zip(nodes, ends, strict=True), 1):
            _run("ip", "link", "set", end, "netns", str(node.first), "name", "eth0")
            _run(*node.enter("ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0", directory=directory))
            _run(*node.enter("ip", "link", "set", "eth0", "up", directory=directory))
        for node in nodes:
            wait_for_ssh(first, node)
        yield first, second


@contextlib.contextmanager
def _node(name: str, directory: Path) -> Iterator[Node]:
    outer = subprocess.Popen([*UNSHARE, "bash", "-c", INIT, "init", name, str(directory)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (children := psutil.Process(outer.pid).children()):
            assert outer.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield Node(name, children[0].pid)
    finally:
        for child in psutil.Process(outer.pid).children():
            child.send_signal(signal.SIGKILL)  # the rest of the node ends with it
        outer.wait()


def _configure(directory: Path) -> None:
    """Writes keys, host names and the configuration of ssh and sshd."""
    for name in ("host_key", "user_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    known = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text("".join(f"{name} {known}" for name in NAMES))
    (directory / "authorized_keys").write_text((directory / "user_key.pub").read_text())
    (directory / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 node-a\n10.77.0.2 node-b\n")
    (directory / "sshd_config").write_text(
        f"HostKey {directory}/host_key\nAuthorizedKeysFile {directory}/authorized_keys\nPidFile none\n"
        "PermitRootLogin yes\nStrictModes no\nUsePAM no\nUseDNS no\nPrintMotd no\nPrintLastLog no\n"
    )
    (directory / "ssh_config").write_text(
        f"Host node-*\n  IdentityFile {directory}/user_key\n  UserKnownHostsFile {directory}/known_hosts\n"
        "  StrictHostKeyChecking yes\n"
    )


def wait_for_ssh(first: Node, node: Node) -> None:
    """Waits until a node reaches another over ssh."""
    deadline = time.monotonic() + 20
    while True:
        done = subprocess.run(first.enter("ssh", node.name, "hostname", directory=Path("/")), capture_output=True)
        if done.stdout.decode().strip() == node.name:
            return
        assert time.monotonic() < deadline, done.stderr.decode()
        time.sleep(0.1)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes for the tests of a file; they are skipped where namespaces are not allowed."""
    if reason := why_not():
        pytest.skip(reason)
    with two_nodes(tmp_path_factory.mktemp("nodes")) as both:
        yield both
