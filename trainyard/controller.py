"""One run from command to exit code: compose -> check -> prepare -> launch -> supervise. Imports no torch.

Exit codes: 0 finished; 2 the request is wrong, nothing was started or written over; 75 stopped by a signal, the same
command resumes; 1 anything else, with the error of the rank that failed first on the last line.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import xxhash

from trainyard import checkpoint, checks, launcher, report
from trainyard.config import ConfigError, compose, load, save
from trainyard.data.prepare import Prepared, Request, find
from trainyard.devices import Devices, detect
from trainyard.display import Display
from trainyard.rundir import RunDir, read_json
from trainyard.schema import Config

FINISHED, FAILED, WRONG, STOPPED = 0, 1, 2, 75
POLL_S = 0.2
PEER_GRACE_S = 3.0
"""Seconds that the other ranks get to leave by themselves, and to say what they saw, once one has failed."""


def main(stage: str, arguments: Sequence[str]) -> int:
    """Runs one stage with the command line's overrides; options such as --help and -m are Hydra's own."""
    if any(argument.startswith("-") for argument in arguments):
        return _through_hydra(stage, arguments)
    try:
        return run(compose(stage, arguments), arguments)
    except ConfigError as error:
        return _refuse(error.problems)


def _through_hydra(stage: str, arguments: Sequence[str]) -> int:
    """--help, --cfg job, --info, -m and the rest, as @hydra.main gives them; each job of -m is a run of its own."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from trainyard import config as configs

    configs.register(stage)
    sys.argv[1:] = configs.with_implied(arguments)
    codes: list[int] = []

    @hydra.main(config_path=str(configs.CONF_DIR), config_name=stage, version_base="1.3")
    def job(node: Any) -> None:
        codes.append(run(configs.to_config(node), list(HydraConfig.get().overrides.task)))

    try:
        job()
    except SystemExit as leaving:  # Hydra's own complaint about the request
        return WRONG if leaving.code else FINISHED
    return max(codes, default=FINISHED)


def run(config: Config, overrides: Sequence[str]) -> int:
    """Checks a composed config, prepares its data, trains, and returns the exit code."""
    devices = detect()
    hosts = launcher.read_hostfile(config.launch.hostfile)
    resolve(config, overrides, devices, hosts)
    run_dir = RunDir(Path(config.paths.outputs) / config.stage / str(config.run.name))
    problems = checks.problems(config, devices, run_dir, hosts=len(hosts))
    if not problems and config.run.resume != "never":
        problems = _drift(config, run_dir)
    if problems:
        return _refuse(problems)
    if _is_finished(config, run_dir):
        print(report.finished(run_dir, run_dir.read_status()))
        return FINISHED
    if not run_dir.acquire():
        return _refuse([f"run.name={config.run.name}: the run is alive, {run_dir.holder()}"])
    with StopSignals() as stop:
        return _Supervisor(config, overrides, devices, run_dir, stop).run()


def resolve(config: Config, overrides: Sequence[str], devices: Devices, hosts: dict[str, int]) -> None:
    """Fills in, in place, what follows from other settings and from the machine."""
    trainer, launch = config.trainer, config.launch
    config.paths.outputs = str(Path(config.paths.outputs).expanduser().absolute())
    config.run.name = config.run.name or default_name(overrides)
    config.model.init = config.model.init or ("pretrained" if config.model.path else "scratch")
    launch.num_devices = launch.num_devices or min(hosts.values(), default=devices.count)
    launch.num_nodes = max(1, len(hosts))
    if trainer.bf16 is None and trainer.fp16 is None:
        trainer.bf16 = devices.bf16
    ranks = launch.num_devices * launch.num_nodes
    if trainer.per_device_train_batch_size is None:
        trainer.per_device_train_batch_size = micro_batch(trainer.global_batch_size, ranks)
    unit = trainer.per_device_train_batch_size * ranks
    if trainer.global_batch_size is None:
        trainer.global_batch_size = unit * (trainer.gradient_accumulation_steps or 1)
    if trainer.gradient_accumulation_steps is None and unit > 0 and trainer.global_batch_size % unit == 0:
        trainer.gradient_accumulation_steps = trainer.global_batch_size // unit


def micro_batch(global_batch: int | None, ranks: int, most: int = 8) -> int:
    """The largest micro batch up to `most` that divides a rank's share of the global batch; 1 if there is no share."""
    if global_batch is None or ranks < 1 or global_batch % ranks:
        return 1
    return max(size for size in range(1, most + 1) if (global_batch // ranks) % size == 0)


def default_name(overrides: Sequence[str]) -> str:
    """`default` or the experiment's name; with other overrides that shape the run, a short digest of them after it.

    The order of the overrides does not matter, nor do those that say where and on what it runs.
    """
    values = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    base = values.pop("experiment", "default")
    shaping = sorted(
        f"{key}={value}"
        for key, value in values.items()
        if not re.match(r"(launch|tracking|paths|run)(\.|$)", key) or key == "run.seed"
    )
    return f"{base}-{xxhash.xxh3_64_hexdigest(' '.join(shaping).encode())[:6]}" if shaping else base


def data_request(config: Config) -> Request:
    return Request(
        outputs=Path(config.paths.outputs),
        stage=config.stage,
        data=config.data,
        tokenizer_path=config.tokenizer.path or config.model.path,
        vocab_size=config.tokenizer.vocab_size,
        trust_remote_code=config.model.trust_remote_code,
    )


class StopSignals:
    """Counts SIGTERM, SIGINT and SIGUSR1 instead of dying of them."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.count = 0
        self.name = ""

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._note) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.name = signal.Signals(number).name


@dataclass
class _Supervisor:
    """Holds a run directory from preparation to the exit code and keeps its status.json true."""

    config: Config
    overrides: Sequence[str]
    devices: Devices
    run_dir: RunDir
    stop: StopSignals

    def run(self) -> int:
        if self.config.run.resume == "never":
            self._keep_aside()
        self.run_dir.logs.mkdir(exist_ok=True)
        before = self.run_dir.read_status()
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
        print(f"run.resume=never: the earlier run is kept in {path.name}.{number}")
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
                return self._end("preempted", STOPPED, f"{self.stop.name} during preparation; the same command resumes")
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
        resume = self._choose_checkpoint()
        if problems := [*checks.model_problems(config), *(_changed_data(config, run_dir) if resume else [])]:
            return self._end("failed", _refuse(problems), "")
        save(config, run_dir.config)
        for leftover in (run_dir.progress, run_dir.stop, *run_dir.logs.glob("*.error.json")):
            leftover.unlink(missing_ok=True)
        step = 0 if resume is None else int(resume.name.rpartition("-")[2])
        self.status.update(state="running", step=step)
        if resume is not None:
            self.status["resumed_from"] = [*self.status["resumed_from"], step]
            print(f"resuming from {resume.name}")
        process = launcher.start(
            launcher.command(config, run_dir, resume), launcher.environment(config, self.devices), run_dir.launcher_log
        )
        try:
            self._watch(process)
        finally:
            launcher.kill(process)
        return self._outcome(process.returncode)

    def _choose_checkpoint(self) -> Path | None:
        if self.config.run.resume not in ("auto", "never"):
            return Path(self.config.run.resume).expanduser().absolute()
        good, passed_over = checkpoint.newest_good(self.run_dir.checkpoints)
        for verdict in passed_over:
            print(f"{verdict.path.name} is passed over: {verdict.reason}")
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
                    print(f"{self.stop.name}: saving a checkpoint, then stopping (at most {grace:g} s)", flush=True)
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
            return self._end("preempted", STOPPED, f"stopped at step {self.status['step']}; the same command resumes")
        saved = max((step for step, _ in checkpoint.list_checkpoints(self.run_dir.checkpoints)), default=0)
        if self.stop.count and self.status["step"] <= saved:
            return self._end("preempted", STOPPED, "stopped; nothing was lost, the same command resumes")
        return self._end("failed", FAILED, report.failure(self.run_dir, code))

    def _end(self, state: str, code: int, message: str) -> int:
        self.status.update(state=state, exit_code=code)
        try:
            self.run_dir.write_status(self.status)
        except OSError as error:
            message = message or f"run directory {self.run_dir.path}: {error}"
        if message:
            print(message, file=sys.stdout if code in (FINISHED, STOPPED) else sys.stderr, flush=True)
        return code


def _refuse(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return WRONG


def _is_finished(config: Config, run_dir: RunDir) -> bool:
    if config.run.resume != "auto" or run_dir.read_status().get("state") != "finished" or not run_dir.model.is_dir():
        return False
    before = load(run_dir.config).trainer
    return (before.max_steps, before.num_train_epochs) == (config.trainer.max_steps, config.trainer.num_train_epochs)


def _drift(config: Config, run_dir: RunDir) -> list[str]:
    """What differs from the run's own config.yaml and would make the resumed run another run."""
    if not run_dir.config.is_file() or not checkpoint.list_checkpoints(run_dir.checkpoints):
        return []
    return checks.drift(load(run_dir.config), config)


def _changed_data(config: Config, run_dir: RunDir) -> list[str]:
    """After the preparation: have the bytes behind the same paths changed?"""
    if not run_dir.config.is_file():
        return []
    before = load(run_dir.config).data.prepared
    if before is None or Path(before).name == Path(str(config.data.prepared)).name:
        return []
    return [
        f"data.sources: the data or the tokenizer of run {config.run.name} have changed since its last checkpoint; "
        f"give this run another run.name, or start over with run.resume=never"
    ]
