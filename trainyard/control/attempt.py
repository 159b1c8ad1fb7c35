"""One launch of a run's ranks, followed until nothing of it is left."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from trainyard.config.schema import Config
from trainyard.control.display import Display
from trainyard.control.launchers import local, ssh
from trainyard.control.launchers.launch import Launch
from trainyard.machine import build_locks, signals
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Killed, LastWords, Progress, RankProcess, Stop

POLL_S = 0.2
"""Seconds between two looks at the ranks."""

PEER_GRACE_S = 3.0
"""Seconds in which the other ranks may say what they saw and leave by themselves, once one has failed."""

DUMP_S = 1.0
"""Seconds in which the ranks write their stacks."""

NEVER = float("inf")


@dataclass
class Attempt:
    """Starts a launch and stays with it: passes on stops, and ends it when a rank fails, hangs or takes too long.

    Attributes:
        asked: the name of the signal that asked for a stop; empty while nothing has.
        hung: seconds without progress after which the ranks were killed; None unless they were.
        killed: ranks of all nodes that died without a word.
        lost: nodes of the hostfile that are gone, or whose connection is.
        code: the exit code of the launcher, or of the first node that failed.
        progress: the newest of rank 0.
    """

    config: Config
    devices: Devices
    run_dir: RunDir
    checkpoint: Path | None
    """The checkpoint that the ranks load; None when they begin from the model."""
    stop: StopSignals
    say: Callable[[str], None]
    leads: bool = True
    """False where another node's controller shows the progress and answers for the whole run."""
    asked: str = ""
    hung: float | None = None
    killed: list[int] = field(default_factory=list)
    lost: Sequence[str] = ()
    code: int = 0
    progress: Progress = field(default_factory=Progress)
    _deadline: float = NEVER
    _failed_at: float = NEVER
    _beat: float = field(default_factory=time.monotonic)

    def follow(self, note: Callable[[Progress], None], over: Callable[[], bool] = lambda: False) -> None:
        """Starts the ranks and returns when they and their launcher have ended.

        Args:
            note: gets rank 0's progress at every look.
            over: tells that the ranks are of no use any more, so that they are ended.
        """
        launch = self._start()
        self._beat = time.monotonic()
        try:
            with Display(self.run_dir.console if self.leads else None) as display:
                while launch.code is None:
                    self._look(display, note)
                    self._pass_on_stop(launch)
                    if self._is_over(launch) or over():
                        break
                    time.sleep(POLL_S)
                self._has_failed(launch)  # before end() kills the rest: afterwards nobody knows which rank died first
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

    def _look(self, display: Display, note: Callable[[Progress], None]) -> None:
        progress = Progress.read(self.run_dir)
        if repr(progress) != repr(self.progress):  # a loss of NaN is not equal to itself
            self.progress, self._beat = progress, time.monotonic()
        display.update(progress)
        note(progress)

    def _pass_on_stop(self, launch: Launch) -> None:
        """Tells the ranks once that they are to stop; from then on they have the grace period."""
        if self.asked:
            return
        self.asked = self.stop.name if self.stop.count else self._asked_elsewhere(launch)
        if self.asked:
            grace = self.config.launch.grace_period_s
            self._deadline = time.monotonic() + grace
            Stop(self.asked).write(self.run_dir)
            self.say(f"{self.asked}: saving a checkpoint, then stopping (at most {grace:g} s)")

    def _asked_elsewhere(self, launch: Launch) -> str:
        """A stop signal that was sent to the launcher or to a rank instead of the controller; empty without one."""
        sent = filter(None, map(signals.pending, launch.own_processes()))
        return next(sent, "") or self.progress.asked

    def _is_over(self, launch: Launch) -> bool:
        """Must the ranks be killed?

        So it is PEER_GRACE_S after a rank has failed (DeepSpeed's launcher would end the others one by one, and wait up
        to 30 s for each), after the grace period of a stop, at a third signal, and when the ranks hang.
        """
        now = time.monotonic()
        if self._failed_at == NEVER and self._has_failed(launch):
            self._failed_at = now
        limit = self.config.launch.hang_timeout_s
        if now > self._beat + limit:
            self.hung = limit
            self._dump_stacks()
            return True
        return now > self._failed_at + PEER_GRACE_S or now > self._deadline or self.stop.count > 2

    def _has_failed(self, launch: Launch) -> bool:
        """Has a rank of any node failed, with last words or without, or a whole node? Notes which."""
        for process in self._ranks_here():
            if not _is_alive(process.pid) and not LastWords.of(self.run_dir, process.rank).exists():
                Killed(process.rank).write(self.run_dir)
        self.killed = [killed.rank for killed in Killed.read_all(self.run_dir)]
        self.lost = launch.lost
        return bool(self.killed) or launch.failed or bool(LastWords.read_all(self.run_dir))

    def _ranks_here(self) -> Iterator[RankProcess]:
        """The ranks of this node that have not left in order."""
        here = os.uname().nodename
        return (process for process in RankProcess.read_all(self.run_dir) if process.host == here)

    def _dump_stacks(self) -> None:
        """Has every rank write the stacks of its threads to its log; see trainyard.training.process."""
        for process in self._ranks_here():
            try:
                os.kill(process.pid, signal.SIGUSR2)
            except ProcessLookupError:
                continue
        time.sleep(DUMP_S)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
