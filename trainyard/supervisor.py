"""From a checked request to an exit code: prepares the data, launches the ranks, and stays with them to the end."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from trainyard import checkpoint, launcher, report, resume
from trainyard.data.prepare import Prepared, find
from trainyard.devices import Devices
from trainyard.display import Display
from trainyard.input_checks import prepared_problems
from trainyard.resolve import data_request
from trainyard.runconfig import save
from trainyard.rundir import RunDir, read_json
from trainyard.schema import Config

FINISHED, FAILED, WRONG, STOPPED = 0, 1, 2, 75
POLL_S = 0.2
PEER_GRACE_S = 3.0
"""Seconds that the other ranks get to leave by themselves, and to say what they saw, once one has failed."""


def say(text: str, *, wrong: bool = False) -> None:
    """Prints at once. A reader that has gone, as with `| head`, costs the run nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr if wrong else sys.stdout, flush=True)


def refuse(problems: Sequence[str]) -> int:
    """Names every mistake of a request."""
    for problem in problems:
        say(f"error: {problem}", wrong=True)
    return WRONG


class StopSignals:
    """Counts SIGTERM, SIGINT, SIGUSR1 and SIGHUP instead of dying of them."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0
        self.name = ""

    def __enter__(self) -> "StopSignals":
        wanted = [number for number in self.NUMBERS if signal.getsignal(number) != signal.SIG_IGN]  # nohup stays nohup
        self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.name = signal.Signals(number).name


@dataclass
class Supervisor:
    """Holds a run directory from preparation to the exit code and keeps its status.json true."""

    config: Config
    overrides: Sequence[str]
    devices: Devices
    run_dir: RunDir
    stop: StopSignals

    def run(self) -> int:
        """The exit code of the run, from its preparation on."""
        if self.config.run.resume == "never":
            self._keep_aside()
        self.before = before = self.run_dir.read_status()
        self.status: dict[str, Any] = {
            "state": "preparing",
            "exit_code": None,
            "step": before.get("step", 0),
            "max_steps": before.get("max_steps"),
            "world_size": (self.config.launch.num_devices or 1) * self.config.launch.num_nodes,
            "tokens_seen": before.get("tokens_seen", 0),
            "restarts": 0,
            "resumed_from": before.get("resumed_from", []),
            "final": {},
        }
        try:
            self.run_dir.logs.mkdir(exist_ok=True)
            self.run_dir.write_status(self.status)
            prepared = self._prepare()
            return prepared if isinstance(prepared, int) else self._train(prepared)
        except OSError as error:
            return self._end("failed", FAILED, f"run directory {self.run_dir.path}: {error}")

    def _keep_aside(self) -> None:
        """run.resume=never: what an earlier run left is renamed, never written over."""
        path = self.run_dir.path
        if not any(entry.name != ".lock" for entry in path.iterdir()):
            return
        number = next(n for n in range(1, 10**6) if not path.with_name(f"{path.name}.{n}").exists())
        self.run_dir.release()
        path.rename(path.with_name(f"{path.name}.{number}"))
        say(f"run.resume=never: the earlier run is kept in {path.name}.{number}")
        self.run_dir.acquire()

    def _prepare(self) -> Prepared | int:
        """The prepared data; an exit code when there is none."""
        request = data_request(self.config)
        prepared = find(request)
        if prepared is None:
            arguments = [sys.executable, "-m", "trainyard", "prepare", self.config.stage, *self.overrides]
            env = launcher.environment(self.config, self.devices) | {"TOKENIZERS_PARALLELISM": "true"}
            child = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, start_new_session=True)
            while child.poll() is None:
                if self.stop.count:
                    child.terminate()
                time.sleep(POLL_S / 4)
            if self.stop.count:
                return self._end("preempted", STOPPED, f"{self.stop.name} during preparation; {self._again()}")
            if child.returncode:
                code = WRONG if child.returncode == WRONG else FAILED
                return self._end("failed", code, "" if code == WRONG else "the preparation of the data died")
            assert child.stdout is not None
            result = json.loads(child.stdout.read().splitlines()[-1])
            prepared = Prepared(Path(result["prepared"]), result["tokenizer"])
        return prepared

    def _train(self, prepared: Prepared) -> int:
        config, run_dir = self.config, self.run_dir
        config.data.prepared = str(prepared.store)
        config.tokenizer.path = prepared.tokenizer
        start = self._choose_checkpoint()
        problems = [*prepared_problems(config), *(resume.changed_data(config, run_dir) if start else [])]
        if problems:
            return self._end("failed", refuse(problems), "")
        save(config, run_dir.config)
        for leftover in (run_dir.progress, run_dir.stop, *run_dir.logs.glob("*.error.json")):
            leftover.unlink(missing_ok=True)
        step = (checkpoint.step_of(start) or 0) if start else 0
        self.status.update(state="running", step=step)
        if start is not None:
            self.status["resumed_from"] = [*self.status["resumed_from"], step]
            say(f"resuming from {start.name}")
        process = launcher.start(
            launcher.command(config, self.devices, run_dir, start),
            launcher.environment(config, self.devices),
            run_dir.launcher_log,
        )
        try:
            self._watch(process)
        finally:
            launcher.kill(process)
        return self._outcome(process.returncode)

    def _choose_checkpoint(self) -> Path | None:
        if named := resume.begun_from(self.config, self.run_dir):
            return named
        good, passed_over = checkpoint.newest_good(self.run_dir.checkpoints)
        for verdict in passed_over:
            say(f"{verdict.path.name} is passed over: {verdict.reason}")
        return good.path if good else None

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Until the launcher ends: shows the progress, keeps the status, passes on a wish to stop."""
        deadline: float | None = None
        failed_at: float | None = None
        with Display(self.run_dir.console) as display:
            while process.poll() is None:
                progress = read_json(self.run_dir.progress)
                display.update(progress)
                self._note_progress(progress)
                if self.stop.count and deadline is None:
                    grace = self.config.launch.grace_period_s
                    deadline = time.monotonic() + grace
                    self.run_dir.stop.touch()
                    say(f"{self.stop.name}: saving a checkpoint, then stopping (at most {grace:g} s)")
                if failed_at is None and any(self.run_dir.logs.glob("rank-*.error.json")):
                    failed_at = time.monotonic()
                if self._is_over(deadline, failed_at):
                    launcher.kill(process)
                time.sleep(POLL_S)
            progress = read_json(self.run_dir.progress)
            display.update(progress)
            self._note_progress(progress)

    def _is_over(self, deadline: float | None, failed_at: float | None) -> bool:
        """Must the ranks be killed: the grace period has passed, a third signal came, or a peer has failed?

        After a failure DeepSpeed's launcher ends the other ranks one after the other and waits up to 30 s for each.
        """
        now = time.monotonic()
        if failed_at is not None and now > failed_at + PEER_GRACE_S:
            return True
        return deadline is not None and (now > deadline or self.stop.count > 2)

    def _note_progress(self, progress: dict[str, Any]) -> None:
        followed = ("step", "max_steps", "tokens_seen", "final")
        news: dict[str, Any] = {key: progress[key] for key in followed if key in progress}
        if news and any(self.status.get(key) != value for key, value in news.items()):
            self.status.update(news)
            self.run_dir.write_status(self.status)

    def _outcome(self, code: int) -> int:
        phase = read_json(self.run_dir.progress).get("phase")
        if code == 0 and phase == "done":
            return self._end("finished", FINISHED, report.finished(self.run_dir, self.status))
        if code == 0 and phase == "stopped":
            return self._end("preempted", STOPPED, f"stopped at step {self.status['step']}; {self._again()}")
        newest = checkpoint.newest_whole(self.run_dir.checkpoints)
        saved = (checkpoint.step_of(newest) or 0) if newest else 0
        if self.stop.count and self.status["step"] <= saved:
            return self._end("preempted", STOPPED, f"stopped; nothing was lost, {self._again()}")
        return self._end("failed", FAILED, report.failure(self.run_dir, code))

    def _again(self) -> str:
        never = self.config.run.resume == "never"
        return "the same command without run.resume=never resumes" if never else "the same command resumes"

    def _end(self, state: str, code: int, message: str) -> int:
        self.status.update(state=state, exit_code=code)
        try:  # a wrong request leaves the state of an earlier run as it was
            self.run_dir.write_status(self.before if code == WRONG and self.before else self.status)
        except OSError as error:
            message = message or f"run directory {self.run_dir.path}: {error}"
        if message:
            say(message, wrong=code not in (FINISHED, STOPPED))
        return code
