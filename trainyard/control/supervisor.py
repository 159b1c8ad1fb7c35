"""From a checked request to an exit code: prepares the data, launches the ranks, and stays with them to the end."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from trainyard.checkpoint.directory import newest_good, newest_whole, step_of
from trainyard.checks import left_out, resume
from trainyard.checks.inputs import prepared_problems
from trainyard.config.overrides import command, spelled
from trainyard.config.saved import save
from trainyard.config.schema import Config, DataConfig
from trainyard.control import conversion, report
from trainyard.control.attempt import POLL_S, Attempt
from trainyard.control.helper import run_helper
from trainyard.control.launchers import local
from trainyard.control.report import Failure
from trainyard.control.say import refuse, say
from trainyard.data.preparation import processes
from trainyard.data.preparation.prepare import find
from trainyard.data.preparation.request import Prepared, data_request
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, Ended, RequestError
from trainyard.machine import checkout
from trainyard.machine.devices import Devices
from trainyard.machine.signals import StopSignals
from trainyard.rundir import messages
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Lead, Phase, Progress
from trainyard.rundir.status import State, StatusFile

BACK_OFF_S, MAX_BACK_OFF_S = 1.0, 60.0
"""Seconds before the first restart, twice as many before each further one, and at most."""

STATES = {FINISHED: State.FINISHED, STOPPED: State.PREEMPTED, FAILED: State.FAILED, WRONG: State.FAILED}


@dataclass
class Supervisor:
    """Holds a run directory from preparation to the exit code and keeps its status.json true.

    Its methods return when the run goes on, and raise Ended as soon as there is an exit code.
    """

    config: Config
    overrides: Sequence[str]
    devices: Devices
    run_dir: RunDir
    stop: StopSignals
    _file: StatusFile = field(init=False, repr=False)
    """Made by `run`, once the directory of an earlier run is out of the way."""
    _converted: bool = field(init=False, default=False)
    """Do the ranks load a conversion that still lies there?"""

    def run(self) -> int:
        """The exit code of the run, from its preparation on."""
        if self.config.run.resume == "never":
            self._keep_aside()
        self._file = StatusFile(
            self.run_dir,
            command=command(self.config.stage, self.overrides),
            commit=checkout.commit(),
            world_size=self.config.launch.ranks,
        )
        if self._file.was_damaged:
            say(f"{self.run_dir.status}: damaged; the run goes on, and its times and counts begin anew")
        try:
            self.run_dir.logs.mkdir(exist_ok=True)
            self._file.write()
            self._train(self._prepare())
        except Ended as ended:
            return self._end(ended)
        except OSError as error:
            return self._end(Ended(FAILED, report.trouble(self.run_dir, error)))
        except RequestError as error:
            return self._end(Ended(refuse(error.problems)))

    def _keep_aside(self) -> None:
        """run.resume=never: renames the directory of an earlier run, so that nothing is written over."""
        path = self.run_dir.path
        if not any(entry.name != ".lock" for entry in path.iterdir()):
            return
        number = next(n for n in range(1, 10**6) if not path.with_name(f"{path.name}.{n}").exists())
        self.run_dir.release()
        path.rename(path.with_name(f"{path.name}.{number}"))
        say(f"run.resume=never: the earlier run is kept in {path.name}.{number}")
        self.run_dir.acquire()

    def _prepare(self) -> Prepared:
        """The prepared data, found or made by a helper."""
        if prepared := find(data_request(self.config)):
            return prepared
        overrides = [*self.overrides, *_as_resolved(self.config.data)]
        child = run_helper(*processes.child(self.config.stage, overrides, self._helper_env()), self.stop)
        if self.stop.count:
            raise Ended(STOPPED, f"{self.stop.name} during preparation; {report.again(self.config)}")
        if child.code == WRONG:  # it has named the mistakes
            raise Ended(WRONG)
        if child.code == FAILED:  # it has said why
            raise Ended(FAILED)
        if child.code:
            raise Ended(FAILED, report.preparation_died(self.config.stage, child.code))
        result = json.loads(child.last_line)
        return Prepared(Path(result["prepared"]), result["tokenizer"])

    def _helper_env(self) -> dict[str, str]:
        return local.environment(self.config, self.devices) | {"TOKENIZERS_PARALLELISM": "true"}

    def _train(self, prepared: Prepared) -> NoReturn:
        """Launches the ranks until the run is finished or stopped, or has failed for good."""
        start = self._settle(prepared)
        failures: list[Failure] = []
        for number in itertools.count(1):
            if self.stop.count:
                raise Ended(STOPPED, f"{self.stop.name} before the start; {report.again(self.config)}")
            attempt = self._launch(start, number, restarts=len(failures))
            self._end_with(attempt)
            if report.rolled_back(self.run_dir):
                self._file.status.rollbacks += 1
            else:
                failures.append(report.failure(self.run_dir, attempt))
                self._back_off(failures)
            start = self._choose_checkpoint()
        raise AssertionError

    def _settle(self, prepared: Prepared) -> Path | None:
        """Completes and writes config.yaml for the ranks; the checkpoint of the first launch, None to begin anew."""
        config, run_dir = self.config, self.run_dir
        config.data.prepared = str(prepared.store)
        config.tokenizer.path = prepared.tokenizer
        start = self._choose_checkpoint()
        own = start is not None and not resume.begun_from(config, run_dir)
        checked = resume.changed_data(config, run_dir) if own else left_out.problem(config)  # a run of 0.1 goes on
        if problems := [*prepared_problems(config), *checked]:
            raise Ended(refuse(problems))
        for line in left_out.warning(config):
            say(line, wrong=True)
        for change in resume.allowed(config, run_dir) if own else []:
            say(f"{change.name}: {change.old} -> {change.new}, as run.allow_changes has it")
        save(config, run_dir.config)
        return start

    def _choose_checkpoint(self) -> Path | None:
        """The checkpoint that the config names, else the newest good one; None without any."""
        if named := resume.begun_from(self.config, self.run_dir):
            return named
        good, passed_over = newest_good(self.run_dir.checkpoints)
        for verdict in passed_over:
            say(f"{verdict.path.name} is passed over: {verdict.reason}")
        return good.path if good else None

    def _launch(self, start: Path | None, number: int, restarts: int) -> Attempt:
        """One launch, followed to its end."""
        step = (step_of(start) or 0) if start else 0
        status = self._file.status
        status.state, status.step, status.restarts = State.RUNNING, step, restarts
        if start is not None:
            status.resumed_from = [*status.resumed_from, step]
            say(f"resuming from {start.name}")
        conversion.discard(self.run_dir)
        try:
            loadable = None
            if start is not None:
                loadable = conversion.loadable(start, self.config, self.run_dir, self._helper_env(), self.stop)
            attempt = Attempt(self.config, self.devices, self.run_dir, loadable, self.stop, say)
            messages.clear(self.run_dir)
            checkpoint = str(loadable) if loadable else None
            Lead(self.run_dir.holder() or "", number, checkpoint).write(self.run_dir)
            self._converted = loadable != start
            attempt.follow(self._note_progress)
            return attempt
        finally:
            conversion.discard(self.run_dir)

    def _note_progress(self, progress: Progress) -> None:
        if self._converted and (progress.step or 0) > self._file.status.step:  # every rank has loaded the conversion
            conversion.discard(self.run_dir)
            self._converted = False
        self._file.update(**progress.figures())

    def _end_with(self, attempt: Attempt) -> None:
        """Ends the run with a launch that finished or was stopped; returns for one that failed."""
        status, again = self._file.status, report.again(self.config)
        if attempt.progress.phase == Phase.DONE:
            raise Ended(FINISHED, report.finished(self.config, self.run_dir, status))
        if attempt.progress.phase == Phase.STOPPED:
            raise Ended(STOPPED, f"stopped at step {status.step}; {again}")
        if not attempt.asked:
            return
        newest = newest_whole(self.run_dir.checkpoints)
        saved = (step_of(newest) or 0) if newest else 0
        if status.step <= saved or report.rolled_back(self.run_dir):
            raise Ended(STOPPED, f"stopped; nothing was lost, {again}")
        lost = status.step - saved
        raise Ended(FAILED, f"stopped without a checkpoint of the last {lost} steps; {again} from step {saved}")

    def _back_off(self, failures: list[Failure]) -> None:
        """Waits before the next launch and says so; ends the run when another launch would be of no use."""
        last, allowed = failures[-1], self.config.launch.max_restarts
        if last.final or len(failures) > allowed:
            raise Ended(FAILED, last.text)
        if last.step in (failure.step for failure in failures[:-1]):
            moment = "the start" if last.step is None else f"step {last.step}"
            say(f"{moment} has failed twice; not tried again", wrong=True)
            raise Ended(FAILED, last.text)
        seconds = min(BACK_OFF_S * 2 ** (len(failures) - 1), MAX_BACK_OFF_S)
        say(f"{last.line}; restart {len(failures)} of {allowed} in {seconds:g} s", wrong=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stop.count:
            time.sleep(POLL_S)

    def _end(self, ended: Ended) -> int:
        """Writes the last status and says the last words; the exit code."""
        code, message = ended.code, ended.message
        status = self._file.status
        status.state, status.exit_code = STATES[code], code
        try:
            if code == WRONG:  # a wrong request leaves the state of an earlier run as it was
                self._file.restore()
            else:
                self._file.write()
        except OSError as error:
            message = message or report.trouble(self.run_dir, error)
        if message:
            say(message, wrong=code not in (FINISHED, STOPPED))
        return code


def _as_resolved(data: DataConfig) -> list[str]:
    """Overrides for a process that composes the config again, which would derive these settings anew."""
    names = ("chat_template", "block_size", "packing", "isolate_documents", "eval_fraction")
    return [f"data.{name}={spelled(getattr(data, name))}" for name in names]
