"""The controller on a further node, where every node is launched by itself: it does what the first node's does.

The nodes share the run's directory. The first node's controller holds its lock, and before each launch it writes down
the launch's number and checkpoint (messages.Lead). The others start their ranks with the same checkpoint, pass stops
and failures on through the run's files, and end with the first one's exit code.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from trainyard.config.schema import Config
from trainyard.control.attempt import POLL_S, Attempt
from trainyard.control.say import say
from trainyard.errors import FAILED, STOPPED
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Lead
from trainyard.rundir.status import Status

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
            if lead is not None and lead.attempt > seen:
                seen = lead.attempt
                self._follow(lead)
            time.sleep(POLL_S)
        code = Status.read(self.run_dir).exit_code
        return code if code is not None else self._fail("it has died; start all nodes again")

    def _find_leader(self) -> str | None:
        """The owner of the run's lock; None when nobody takes it in WAIT_S, or a stop was asked for."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and not self.stop.count:
            leader = self.run_dir.holder() or ""
            if leader.startswith("pid "):  # the leader locks first, and then writes who it is
                return leader
            time.sleep(POLL_S)
        return None

    def _lead(self, leader: str) -> Lead | None:
        """The launch that the leader has written down; None while there is only one of an earlier leader."""
        lead = Lead.read(self.run_dir)
        return lead if lead is not None and lead.leader == leader else None

    def _follow(self, lead: Lead) -> None:
        """This node's ranks of a launch, until it is over or the leader is gone or begins another."""
        start = Path(lead.checkpoint) if lead.checkpoint else None
        begin = start.name if start else "the start"
        say(f"node {self.config.launch.node_rank}: launch {lead.attempt} from {begin}")
        attempt = Attempt(self.config, self.devices, self.run_dir, start, self.stop, say, leads=False)
        attempt.follow(
            lambda progress: None,
            over=lambda: self._lead(lead.leader) != lead or self.run_dir.holder() != lead.leader,
        )

    def _fail(self, reason: str) -> int:
        say(f"error: launch.node_rank={self.config.launch.node_rank}: this node follows the first one, and {reason}")
        return FAILED
