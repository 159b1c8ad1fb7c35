"""The controller on a further node, where each node is launched by itself: it does what the first one's does.

The nodes share the run's directory. The first node's controller holds its lock, and before each launch writes down
which it is, and from which checkpoint (lead.json). The others start their ranks with the same, pass stops and failures
on through the run's files, and end with the first one's exit code.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.schema import Config
from trainyard.control.attempt import POLL_S, Attempt
from trainyard.errors import FAILED, STOPPED
from trainyard.files import read_json
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir

WAIT_S = 600.0
"""Seconds that the first node may take to begin."""


@dataclass
class Follower:
    """Follows the run that the first node's controller leads."""

    config: Config
    devices: Devices
    run_dir: RunDir
    stop: StopSignals

    def run(self) -> int:
        """The exit code of the run."""
        leader = self._find_leader()
        if leader is None:
            return STOPPED if self.stop.count else self._fail("it has not begun; start it with launch.node_rank=0")
        seen = 0
        while self.run_dir.holder() == leader:
            lead = self._lead(leader)
            if lead.get("attempt", 0) > seen:
                seen = int(lead["attempt"])
                self._attempt(lead, leader)
            time.sleep(POLL_S)
        code = self.run_dir.read_status().get("exit_code")
        return int(code) if code is not None else self._fail("it has died; start all nodes again")

    def _find_leader(self) -> str | None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and not self.stop.count:
            leader = self.run_dir.holder() or ""
            if leader.startswith("pid "):  # it locks first, and then writes who it is
                return leader
            time.sleep(POLL_S)
        return None

    def _lead(self, leader: str) -> dict[str, Any]:
        """What the leader has written; not what an earlier one left."""
        lead = read_json(self.run_dir.lead)
        return lead if lead.get("leader") == leader else {}

    def _attempt(self, lead: dict[str, Any], leader: str) -> None:
        start = Path(lead["checkpoint"]) if lead["checkpoint"] else None
        begin = start.name if start else "the start"
        print(f"node {self.config.launch.node_rank}: launch {lead['attempt']} from {begin}", flush=True)
        attempt = Attempt(self.config, self.devices, self.run_dir, start, self.stop, print, leads=False)
        attempt.follow(
            lambda progress: None,
            over=lambda: self._lead(leader).get("attempt") != lead["attempt"] or self.run_dir.holder() != leader,
        )

    def _fail(self, reason: str) -> int:
        print(f"error: launch.node_rank={self.config.launch.node_rank}: this node follows the first one, and {reason}")
        return FAILED
