"""One launch of a run's ranks, followed until nothing of it is left."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trainyard.config.schema import Config
from trainyard.control.display import Display
from trainyard.control.launchers import local, ssh
from trainyard.files import read_json
from trainyard.machine import build_locks, signals
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir

POLL_S = 0.2


PEER_GRACE_S = 3.0
"""Seconds that the other ranks get to leave by themselves, and to say what they saw, once one has failed."""


DUMP_S = 1.0
"""Seconds in which the ranks write their stacks."""


Say = Callable[[str], None]


Launch = local.LocalLaunch | ssh.SshLaunch


@dataclass
class Attempt:
    """Starts DeepSpeed's launcher and stays with it.

    Args:
        leads: False where another node's controller shows what happens and answers for the whole run.

    Attributes:
        asked: what asked for a stop, a signal's name; empty while nothing has.
        hung: seconds without progress after which the ranks were killed; None unless they were.
        killed: ranks that died without a word, on whatever node.
        lost: nodes of the hostfile that are gone, or whose connection is.
        code: the launcher's exit code, or that of the first node that failed.
    """

    config: Config
    devices: Devices
    run_dir: RunDir
    checkpoint: Path | None
    stop: StopSignals
    say: Say
    leads: bool = True

    def __post_init__(self) -> None:
        self.asked = ""
        self.hung: float | None = None
        self.killed: list[int] = []
        self.lost: Sequence[str] = []
        self.code = 0
        self.progress: dict[str, Any] = {}
        self._deadline = self._failed_at = float("inf")
        self._beat = time.monotonic()

    def clear(self) -> None:
        """Removes what an earlier launch has left."""
        leftovers = [path for kind in ("error.json", "pid", "killed") for path in self.run_dir.logs.glob(f"*.{kind}")]
        for leftover in (self.run_dir.progress, self.run_dir.stop, *leftovers):
            leftover.unlink(missing_ok=True)

    def follow(self, note: Callable[[dict[str, Any]], None], over: Callable[[], bool] = lambda: False) -> None:
        """Until launcher and ranks have ended.

        Args:
            note: gets rank 0's progress again and again.
            over: are the ranks of no use any more?
        """
        launch = self._start()
        try:
            with Display(self.run_dir.console if self.leads else None) as display:
                while launch.code is None:
                    self._look(display, note)
                    self._pass_on_stop(launch)
                    if self._is_over(launch) or over():
                        break
                    time.sleep(POLL_S)
                self._has_failed(launch)  # while it can be told who died by himself
                launch.end()
                self._look(display, note)
        finally:
            launch.end()
            self.code = launch.code or 0

    def _start(self) -> Launch:
        config, run_dir = self.config, self.run_dir
        if config.launch.hostfile:
            return ssh.start(config, run_dir, self.checkpoint)
        for text in build_locks.remove_dead(build_locks.builds()):
            self.say(text)
        log = run_dir.launcher_log if self.leads else run_dir.logs / f"launcher-{config.launch.node_rank}.log"
        arguments = local.command(config, self.devices, run_dir, self.checkpoint)
        return local.start(arguments, local.environment(config, self.devices), log)

    def _look(self, display: Display, note: Callable[[dict[str, Any]], None]) -> None:
        progress = read_json(self.run_dir.progress)
        if progress != self.progress:
            self.progress, self._beat = progress, time.monotonic()
        display.update(progress)
        note(progress)

    def _pass_on_stop(self, launch: Launch) -> None:
        """Tells the ranks once; from then on they have the grace period."""
        if self.asked:
            return
        if self.stop.count:
            self.asked = self.stop.name
        else:
            self.asked = next(filter(None, map(signals.pending, launch.own_processes())), "")
        self.asked = self.asked or str(self.progress.get("asked", ""))
        if self.asked:
            grace = self.config.launch.grace_period_s
            self._deadline = time.monotonic() + grace
            self.run_dir.stop.touch()
            self.say(f"{self.asked}: saving a checkpoint, then stopping (at most {grace:g} s)")

    def _is_over(self, launch: Launch) -> bool:
        """Must the ranks be killed: a peer has failed, the grace period has passed, a third signal came, or they hang?

        After a failure DeepSpeed's launcher ends the other ranks one after the other and waits up to 30 s for each.
        """
        now = time.monotonic()
        if self._failed_at == float("inf") and self._has_failed(launch):
            self._failed_at = now
        limit = self.config.launch.hang_timeout_s
        if now > self._beat + limit:
            self.hung = limit
            self._dump_stacks()
            return True
        return now > self._failed_at + PEER_GRACE_S or now > self._deadline or self.stop.count > 2

    def _has_failed(self, launch: Launch) -> bool:
        """Has a rank said that it failed, or died without a word, or has a whole node failed?"""
        logs = self.run_dir.logs
        for rank in (rank for rank, pid in self._ranks() if not _is_alive(pid)):
            if not (logs / f"rank-{rank}.error.json").exists():
                (logs / f"rank-{rank}.killed").touch()  # for the other nodes
        self.killed = sorted(int(file.stem.removeprefix("rank-")) for file in logs.glob("rank-*.killed"))
        self.lost = launch.lost
        return bool(self.killed) or launch.failed or any(logs.glob("rank-*.error.json"))

    def _ranks(self) -> Iterator[tuple[int, int]]:
        """Rank and process of those on this node that have not left in order."""
        for file in self.run_dir.logs.glob("rank-*.pid"):
            host, _, pid = _read(file).partition(" ")
            if host == os.uname().nodename and pid:
                yield int(file.stem.removeprefix("rank-")), int(pid)

    def _dump_stacks(self) -> None:
        for _, pid in self._ranks():
            try:
                os.kill(pid, signal.SIGUSR2)  # see trainyard.training.process
            except ProcessLookupError:
                continue
        time.sleep(DUMP_S)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
