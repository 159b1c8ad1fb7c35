"""From a checked request to an exit code: prepares the data, launches the ranks, and stays with them to the end."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from trainyard.checkpoint import directory as checkpoint_directory
from trainyard.checkpoint.manifest import Manifest
from trainyard.checks import resume
from trainyard.checks.inputs import prepared_problems
from trainyard.config.overrides import command
from trainyard.config.saved import save
from trainyard.config.schema import Config
from trainyard.control import report
from trainyard.control.attempt import POLL_S, Attempt
from trainyard.control.launchers import local
from trainyard.control.report import Failure, refuse, say
from trainyard.data.preparation import processes
from trainyard.data.preparation.prepare import find
from trainyard.data.preparation.request import Prepared, data_request
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG
from trainyard.files import write_json
from trainyard.machine import checkout
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir

BACK_OFF_S, MAX_BACK_OFF_S = 1.0, 60.0
"""Seconds before the first restart, twice as many before each further one, and at most."""


@dataclass
class Supervisor:
    """Holds a run directory from preparation to the exit code and keeps its status.json true."""

    config: Config
    overrides: Sequence[str]
    devices: Devices
    run_dir: RunDir
    stop: StopSignals
    converted: Path | None = None
    """What was made of a checkpoint for the launch that is on, until all ranks have loaded it."""

    def run(self) -> int:
        """The exit code of the run, from its preparation on."""
        if self.config.run.resume == "never":
            self._keep_aside()
        self.before = before = self.run_dir.read_status()
        self._began = time.monotonic() - before.get("seconds", 0.0)
        self.status: dict[str, Any] = {
            "command": command(self.config.stage, self.overrides),
            "commit": checkout.commit(),
            "state": "preparing",
            "exit_code": None,
            "step": before.get("step", 0),
            "max_steps": before.get("max_steps"),
            "world_size": self.config.launch.ranks,
            "tokens_seen": before.get("tokens_seen", 0),
            "restarts": 0,
            "rollbacks": 0,
            "resumed_from": before.get("resumed_from", []),
            "final": {},
        }
        try:
            self.run_dir.logs.mkdir(exist_ok=True)
            self._write_status()
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
            child = self._helper(*processes.child(self.config.stage, self.overrides, self._helper_env()))
            if self.stop.count:
                return self._end("preempted", STOPPED, f"{self.stop.name} during preparation; {self._again()}")
            if child.returncode:
                code = WRONG if child.returncode == WRONG else FAILED
                return self._end("failed", code, "" if code == WRONG else "the preparation of the data died")
            assert child.stdout is not None
            result = json.loads(child.stdout.read().splitlines()[-1])
            prepared = Prepared(Path(result["prepared"]), result["tokenizer"])
        return prepared

    def _helper(
        self, command: Sequence[str], env: dict[str, str], errors: IO[str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Runs a command of ours until it ends, or until this run is to stop; its standard output can be read then."""
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        while child.poll() is None:
            if self.stop.count:
                child.terminate()
            time.sleep(POLL_S / 4)
        return child

    def _helper_env(self) -> dict[str, str]:
        return local.environment(self.config, self.devices) | {"TOKENIZERS_PARALLELISM": "true"}

    def _train(self, prepared: Prepared) -> int:
        config, run_dir = self.config, self.run_dir
        config.data.prepared = str(prepared.store)
        config.tokenizer.path = prepared.tokenizer
        start = self._choose_checkpoint()
        own = start is not None and not resume.begun_from(config, run_dir)
        problems = [*prepared_problems(config), *(resume.changed_data(config, run_dir) if own else [])]
        if problems:
            return self._end("failed", refuse(problems), "")
        for change in resume.allowed(config, run_dir) if own else []:
            say(f"{change.name}: {change.old} -> {change.new}, as run.allow_changes has it")
        save(config, run_dir.config)
        failures: list[Failure] = []
        launches = itertools.count(1)
        while True:
            if self.stop.count:
                return self._end("preempted", STOPPED, f"{self.stop.name} before the start; {self._again()}")
            step = (checkpoint_directory.step_of(start) or 0) if start else 0
            self.status.update(state="running", step=step, restarts=len(failures))
            if start is not None:
                self.status["resumed_from"] = [*self.status["resumed_from"], step]
                say(f"resuming from {start.name}")
            attempt = self._launch(start, next(launches))
            if isinstance(attempt, int):
                return attempt
            ended = self._ended(attempt)
            if ended is not None:
                return ended
            if report.rolled_back(run_dir):
                self.status["rollbacks"] += 1
            else:
                failures.append(report.failure(run_dir, attempt))
                if not self._tries_again(failures):
                    return self._end("failed", FAILED, failures[-1].text)
            start = self._choose_checkpoint()

    def _launch(self, start: Path | None, number: int) -> Attempt | int:
        """One launch, followed to its end; an exit code when there is no checkpoint that its ranks can load."""
        self.converted = None
        shutil.rmtree(self.run_dir.converted, ignore_errors=True)  # of a controller that was killed
        try:
            loadable = self._convert(start) if start else None
            if isinstance(loadable, int):
                return loadable
            attempt = Attempt(self.config, self.devices, self.run_dir, loadable, self.stop, say)
            attempt.clear()
            lead = {"leader": self.run_dir.holder(), "attempt": number}
            write_json(self.run_dir.lead, lead | {"checkpoint": str(loadable) if loadable else None})
            attempt.follow(self._note_progress)
            return attempt
        finally:
            shutil.rmtree(self.run_dir.converted, ignore_errors=True)

    def _choose_checkpoint(self) -> Path | None:
        if named := resume.begun_from(self.config, self.run_dir):
            return named
        good, passed_over = checkpoint_directory.newest_good(self.run_dir.checkpoints)
        for verdict in passed_over:
            say(f"{verdict.path.name} is passed over: {verdict.reason}")
        return good.path if good else None

    def _convert(self, start: Path) -> Path | int:
        """The checkpoint as these ranks can load it: itself, or a converted copy; an exit code when there is none."""
        manifest = Manifest.read(start)
        assert manifest is not None  # it was verified
        if resume.fits(self.config, manifest):
            return start
        say(f"{start.name}: written by {manifest.writers}; converting it for {resume.described(self.config)}")
        target = self.run_dir.converted / start.name
        for directory in (target.parent, self.run_dir.checkpoints):  # a run begun from another's has none yet
            directory.mkdir(exist_ok=True)
        what = f"the conversion of {start.name}"
        if problem := checkpoint_directory.lack_of_space(self.run_dir.checkpoints, manifest.state_bytes(), what):
            return self._end("failed", FAILED, problem)
        log = self.run_dir.logs / "conversion.log"
        with log.open("w", encoding="utf-8") as stream:
            command = [sys.executable, "-m", "trainyard.checkpoint.convert", str(start), str(target)]
            command += ["--fp16"] if self.config.trainer.fp16 and self.config.deepspeed.config else []
            child = self._helper(command, self._helper_env(), errors=stream)
        if self.stop.count:
            return self._end("preempted", STOPPED, f"{self.stop.name} during the conversion; {self._again()}")
        if child.returncode:
            way_on = f"Go on with {manifest.writers}, or start over with run.resume=never"
            text = f"the conversion of {start.name} failed: {report.last_line(log)}. {way_on}"
            return self._end("failed", FAILED, text)
        self.converted = target
        return target

    def _ended(self, attempt: Attempt) -> int | None:
        """The exit code of a launch that finished or was stopped; None for one that failed."""
        phase = attempt.progress.get("phase")
        if phase == "done":
            return self._end("finished", FINISHED, report.finished(self.config, self.run_dir, self.status))
        if phase == "stopped":
            return self._end("preempted", STOPPED, f"stopped at step {self.status['step']}; {self._again()}")
        newest = checkpoint_directory.newest_whole(self.run_dir.checkpoints)
        saved = (checkpoint_directory.step_of(newest) or 0) if newest else 0
        if attempt.asked and (self.status["step"] <= saved or report.rolled_back(self.run_dir)):
            return self._end("preempted", STOPPED, f"stopped; nothing was lost, {self._again()}")
        if attempt.asked:
            lost = self.status["step"] - saved
            text = f"stopped without a checkpoint of the last {lost} steps; {self._again()} from step {saved}"
            return self._end("failed", FAILED, text)
        return None

    def _tries_again(self, failures: list[Failure]) -> bool:
        """Waits and says so; False when another launch would be of no use."""
        last, allowed = failures[-1], self.config.launch.max_restarts
        if last.final or len(failures) > allowed:
            return False
        if last.step in (failure.step for failure in failures[:-1]):
            moment = "the start" if last.step is None else f"step {last.step}"
            say(f"{moment} has failed twice; not tried again", wrong=True)
            return False
        seconds = min(BACK_OFF_S * 2 ** (len(failures) - 1), MAX_BACK_OFF_S)
        say(f"{last.line}; restart {len(failures)} of {allowed} in {seconds:g} s", wrong=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stop.count:
            time.sleep(POLL_S)
        return True

    def _note_progress(self, progress: dict[str, Any]) -> None:
        followed = ("step", "max_steps", "tokens_seen", "final")
        news: dict[str, Any] = {key: progress[key] for key in followed if key in progress}
        if self.converted and news.get("step", 0) > self.status["step"]:  # every rank has loaded what it needs
            shutil.rmtree(self.converted, ignore_errors=True)
            self.converted = None
        if news and any(self.status.get(key) != value for key, value in news.items()):
            self.status.update(news)
            self._write_status()

    def _write_status(self) -> None:
        """With the seconds that all starts of the run have taken together, and the time of day."""
        seconds, now = time.monotonic() - self._began, datetime.now(timezone.utc)
        self.status.update(seconds=round(seconds, 1), updated=now.isoformat(timespec="seconds"))
        self.run_dir.write_status(self.status)

    def _again(self) -> str:
        never = self.config.run.resume == "never"
        return "the same command without run.resume=never resumes" if never else "the same command resumes"

    def _end(self, state: str, code: int, message: str) -> int:
        self.status.update(state=state, exit_code=code)
        try:  # a wrong request leaves the state of an earlier run as it was
            if code == WRONG and self.before:
                self.run_dir.write_status(self.before)
            else:
                self._write_status()
        except OSError as error:
            message = message or f"run directory {self.run_dir.path}: {error}"
        if message:
            say(message, wrong=code not in (FINISHED, STOPPED))
        return code
