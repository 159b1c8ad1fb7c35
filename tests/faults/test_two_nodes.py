"""Two nodes with a network of their own, see nodes.py: a launch over ssh, and one launch on each node."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import Finished, clean_env, command
from disturb import SLOW, WAIT_S, Live, assert_same_run
from nodes import Node, nodes, wait_for_ssh  # noqa: F401
from test_surroundings import SECRET, STRANGE

from trainyard.checkpoint.manifest import verify
from trainyard.machine.processes import START

pytestmark = pytest.mark.slow


@dataclass
class Yard:
    """Starts runs on two nodes, and looks at their processes."""

    nodes: tuple[Node, Node]
    outputs: Path
    corpus: Path
    directory: Path

    def start(self, node: Node, name: str, *overrides: str, **variables: str) -> Live:
        """Starts the command on one node, in an empty directory."""
        process = subprocess.Popen(
            node.enter(*command(self.outputs, name, self.corpus, *overrides), directory=self.directory),
            env=clean_env(**variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return Live(process, self.outputs / "pretrain" / name)

    def over_ssh(self, name: str, *overrides: str, **variables: str) -> Live:
        """Starts a run on the first node, with a hostfile that names both nodes, one rank each."""
        hostfile = self.directory.parent / "hostfile"
        hostfile.write_text("".join(f"{node.name} slots=1\n" for node in self.nodes))
        return self.start(self.nodes[0], name, f"launch.hostfile={hostfile}", SLOW, *overrides, **variables)

    def on_each(self, name: str, rank: int, *overrides: str) -> Live:
        """Starts one of two launches that form a run."""
        settings = ["launch.num_nodes=2", f"launch.node_rank={rank}", "launch.master_addr=node-a"]
        return self.start(self.nodes[rank], name, *settings, "launch.num_devices=1", SLOW, *overrides)

    def find(self, node: int, part: str) -> psutil.Process | None:
        """A process on a node whose command line contains a text; None without such a process."""
        found = [process for process in self.nodes[node].processes() if part in command_line(process)]
        return found[0] if found else None

    def left(self, part: str = "") -> list[str]:
        """The command lines on both nodes that contain a text."""
        return [line for node in self.nodes for line in node.left() if part in line]

    def nothing_left(self, part: str = "") -> None:
        """Waits until no process is left: those of a killed controller end a little later."""
        deadline = time.monotonic() + WAIT_S
        while left := self.left(part):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.fixture
def yard(nodes: tuple[Node, Node], outputs: Path, corpus: Path, tmp_path: Path) -> Yard:  # noqa: F811
    directory = tmp_path / "empty"
    directory.mkdir()
    return Yard(nodes, outputs, corpus, directory)


def command_line(process: psutil.Process) -> str:
    """The command line; empty when the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.faults(case="20", fault="the same over ssh: overrides that a remote shell would run, secrets")
def test_nothing_but_a_fixed_command_reaches_a_remote_shell(yard: Yard, zero2_run: Finished) -> None:
    name = f"中 文 {STRANGE}"
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    live = yard.over_ssh("strange", f"run.name='{quoted}'", SWANLAB_API_KEY=SECRET, YARD_NOTE=f"a 'note' {STRANGE}")
    live.run = yard.outputs / "pretrain" / name
    seen: set[str] = set()
    reached: dict[str, str] = {}

    def rank_has_begun() -> bool:
        seen.update(command_line(process) for process in psutil.process_iter())
        rank = yard.find(1, "pretrain.train")
        if rank and (live.run / "logs" / "rank-1.pid").exists():
            reached.update(rank.environ())
        return bool(reached)

    live.wait_for(rank_has_begun)
    done = live.end()
    assert_same_run(done, zero2_run)
    assert (reached["SWANLAB_API_KEY"], reached["YARD_NOTE"]) == (SECRET, f"a 'note' {STRANGE}")
    assert any("ssh -T" in line for line in seen) and not [line for line in seen if SECRET in line]
    logs = [*yard.directory.parent.rglob("*"), *live.run.rglob("*")]
    assert [file for file in logs if file.is_file() and SECRET.encode() in file.read_bytes()] == []
    assert SECRET not in done.stdout + done.stderr
    assert list(yard.directory.iterdir()) == []
    hosts = [(live.run / "logs" / f"rank-{rank}.log").read_text().split(" on ")[1].split()[0] for rank in (0, 1)]
    assert hosts == ["node-a", "node-b"]
    yard.nothing_left()


TARGETS: dict[str, Callable[[Yard, Live], psutil.Process | None]] = {
    "the controller": lambda yard, live: psutil.Process(live.process.pid).children()[0],
    "ssh to node-b": lambda yard, live: yard.find(0, "-- node-b"),
    "node-b's watch": lambda yard, live: yard.find(1, "trainyard.control.launchers.node"),
    "node-b's launcher": lambda yard, live: yard.find(1, "deepspeed.launcher.launch"),
    "node-b's rank": lambda yard, live: yard.find(1, f"-u {START} pretrain.train"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.faults(
    case="3, 4", fault="two nodes over ssh: SIGTERM to the controller, ssh, a node's watch, launcher, rank"
)
def test_a_stop_reaches_both_nodes(yard: Yard, zero2_run: Finished, target: str) -> None:
    name = f"nodes-stop-{target.replace(' ', '-')}".replace("'", "")
    live = yard.over_ssh(name, "trainer.save_steps=100")
    live.wait_for_step(3)
    victim = TARGETS[target](yard, live)
    assert victim is not None
    os.kill(victim.pid, signal.SIGTERM)
    done = live.end()
    assert done.code == 75, done.stdout + done.stderr
    assert yard.left("python") == []
    yard.nothing_left()
    step = done.status["step"]
    assert 3 <= step < 20 and done.status["restarts"] == 0
    assert verify(live.run / "checkpoints" / f"checkpoint-{step}") is None
    again = yard.over_ssh(name, "trainer.save_steps=100").end()
    assert again.status["resumed_from"] == [step]
    assert_same_run(again, zero2_run)


@pytest.mark.faults(case="8", fault="two nodes over ssh: SIGKILL of all that runs on the second")
def test_a_node_that_dies_is_named_and_started_again(yard: Yard, zero2_run: Finished) -> None:
    live = yard.over_ssh("node-b-killed", "trainer.save_steps=5")
    live.wait_for_step(7)
    yard.nodes[1].kill()
    done = live.end()
    assert "node-b is gone" in done.stderr and "restart 1 of 3" in done.stderr
    assert (done.status["restarts"], done.status["resumed_from"]) == (1, [5])
    assert_same_run(done, zero2_run)
    yard.nothing_left()


@pytest.mark.faults(case="8", fault="two nodes over ssh: SIGKILL of all that runs on the first, the controller too")
def test_a_node_without_its_controller_ends_its_ranks(yard: Yard, zero2_run: Finished) -> None:
    live = yard.over_ssh("node-a-killed", "trainer.save_steps=5")
    live.wait_for_step(7)
    yard.nodes[0].kill()
    assert live.end().code != 0
    yard.nothing_left()
    again = yard.over_ssh("node-a-killed", "trainer.save_steps=5").end()
    assert again.status["resumed_from"] == [5]
    assert_same_run(again, zero2_run)


@pytest.mark.faults(case="8", fault="two nodes over ssh: the second's cable pulled")
def test_nodes_that_are_cut_off_from_each_other_both_end(yard: Yard, zero2_run: Finished) -> None:
    """Each notices the silence of the other: no connection is closed, and a collective operation would wait for half an
    hour."""
    settings = ["trainer.save_steps=5", "launch.max_restarts=0"]
    live = yard.over_ssh("cut-off", *settings)
    live.wait_for_step(7)
    yard.nodes[1].plug("down")
    try:
        done = live.end()
        assert done.code == 1 and "node-b is gone" in done.stderr.splitlines()[-1]
        yard.nothing_left("python")
    finally:
        yard.nodes[1].plug("up")
    wait_for_ssh(*yard.nodes)
    again = yard.over_ssh("cut-off", *settings).end()
    assert again.status["resumed_from"] == [5]
    assert_same_run(again, zero2_run)


@pytest.mark.faults(case="8", fault="two nodes over ssh: SIGKILL of one rank on the second")
def test_a_rank_that_dies_elsewhere_is_named(yard: Yard, zero2_run: Finished) -> None:
    live = yard.over_ssh("nodes-rank-killed", "trainer.save_steps=5")
    live.wait_for_step(7)
    victim = yard.find(1, f"-u {START} pretrain.train")
    assert victim is not None
    victim.kill()
    done = live.end()
    assert "rank 1 died without a message" in done.stderr
    assert_same_run(done, zero2_run)
    yard.nothing_left()


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.faults(case="8", fault="one launch on each of two nodes: SIGKILL of all that runs on one of them")
def test_a_node_that_dies_takes_part_again(yard: Yard, zero2_run: Finished, killed: int) -> None:
    """When the first node dies, the launch on the second ends too. When the second dies, the first waits for it."""
    name = f"each-{killed}-killed"
    lives = [yard.on_each(name, rank, "trainer.save_steps=5") for rank in (0, 1)]
    lives[0].wait_for_step(7)
    yard.nodes[killed].kill()
    assert lives[killed].end().code != 0
    if killed == 0:
        assert lives[1].end().code == 1
        yard.nothing_left()
        lives[1] = yard.on_each(name, 1, "trainer.save_steps=5")
    lives[killed] = yard.on_each(name, killed, "trainer.save_steps=5")
    ends = [live.end() for live in lives]
    assert [end.code for end in ends] == [0, 0], [end.stdout + end.stderr for end in ends]
    assert ends[0].status["resumed_from"][0] == 5
    assert_same_run(ends[0], zero2_run)
    yard.nothing_left()
