"""Runs real commands on two CPU ranks with faults in them, and compares them with undisturbed runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT, Finished, Pretrain, clean_env, command, settings

INJECT = Path(__file__).parent / "inject"
SLOW = "trainer.eval_steps=1"
"""Evaluates after every step: the weights stay the same, and the run lasts long enough to disturb it."""
WAIT_S = 280.0
"""Far more than a run lasts on a busy machine, and less than pytest's limit for a test."""


@dataclass
class Live:
    """A run that is going on, the fault that is injected into it, and the record of faults that happened."""

    process: subprocess.Popen[str]
    run: Path
    fault: str | None = None
    hits: Path | None = None

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Waits for something that the run does; fails when the run ends first, or after WAIT_S seconds."""
        deadline = time.monotonic() + WAIT_S
        while not happened():
            assert time.monotonic() < deadline, "it has not happened in time"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)

    def wait_for_step(self, step: int) -> None:
        """Waits until metrics.jsonl has the loss of a step."""
        wanted = f'{{"step": {step}, "loss"'
        metrics = self.run / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and wanted in metrics.read_text())

    def members(self, part: str) -> list[psutil.Process]:
        """The processes of the run whose command line contains a text, parents first."""
        tree = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in tree if part in " ".join(command_line(process))]

    def rank(self, number: int) -> int:
        """The process id of a rank."""
        return int((self.run / "logs" / f"rank-{number}.pid").read_text().split()[1])

    def end(self) -> Finished:
        """Waits for the end of the command; fails when the injected fault has not happened."""
        stdout, stderr = self.process.communicate(timeout=WAIT_S)
        if self.fault and self.hits:
            assert_happened(self.fault, self.hits, stdout + stderr)
        return Finished(self.process.returncode, stdout, stderr, 0.0, self.run)


@dataclass
class Faults:
    """Starts runs of the tiny model under one folder of outputs."""

    outputs: Path
    corpus: Path
    pretrain: Pretrain

    def start(
        self,
        name: str,
        *overrides: str,
        fault: str | None = None,
        once: bool = True,
        inside: Sequence[str] = (),
        **variables: str,
    ) -> Live:
        """Begins a run with a fault injected into its ranks.

        Args:
            fault: see inject/sitecustomize.py.
            once: the fault happens once; otherwise at each launch that comes to its place.
            inside: a command that runs another one, as `unshare --mount`.
        """
        env, hits = dict(variables), self.outputs / f"{name}.hits"
        hits.unlink(missing_ok=True)
        if fault:
            env |= {"PYTHONPATH": str(INJECT), "FAULT": fault, "FAULT_HITS": str(hits)}
            env |= {"FAULT_ONCE": str(self.outputs / f"{name}.fault")} if once else {}
        process = subprocess.Popen(
            [*inside, *command(self.outputs, name, self.corpus, *overrides)], env=clean_env(**env), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return Live(process, self.outputs / "pretrain" / name, fault, hits)

    def again(self, name: str, *overrides: str) -> Finished:
        """Runs the same command to its end without a fault."""
        return self.pretrain(name, *overrides)


def mounted(script: str) -> list[str]:
    """The start of a command line that runs another command behind mounts of its own, which `script` makes.

    The test is skipped where mounts are not allowed.
    """
    inside = ["unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh"]
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mounts of its own here: {tried.stderr.strip()}")
    return inside


class Warm:
    """Runs commands in forks of a process that has imported torch; see warm.py."""

    def __init__(self, outputs: Path):
        self.outputs, self._number = outputs, 0

    def __enter__(self) -> "Warm":
        env = clean_env(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(INJECT)])
        self._process = subprocess.Popen(
            [sys.executable, str(INJECT.parent / "warm.py")], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __call__(
        self, name: str, corpus: Path, *overrides: str, stage: str = "pretrain", fault: str = "", **variables: str
    ) -> Finished:
        """Runs a command to its end with a fault injected into its ranks.

        Fails when the fault has not happened, or when a process of the command is left.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._number += 1
        output = self.outputs / f"warm-{self._number}"
        hits = output.with_suffix(".hits")
        request = {
            "stage": stage,
            "arguments": settings(self.outputs, name, corpus, *overrides, stage=stage),
            "env": {"FAULT": fault, "FAULT_HITS": str(hits), **variables},
            "output": str(output),
        }
        started = time.monotonic()
        print(json.dumps(request), file=self._process.stdin, flush=True)
        code = self._process.stdout.readline()
        if code == "ready\n":
            code = self._process.stdout.readline()
        deadline = time.monotonic() + 10
        while left := [each for each in psutil.Process(self._process.pid).children(True) if not _is_dead(each)]:
            assert time.monotonic() < deadline, f"{left} outlive the command"
            time.sleep(0.05)
        said = [output.with_suffix(end).read_text() for end in (".out", ".err")]
        assert_happened(fault, hits, "".join(said))
        return Finished(int(code), *said, time.monotonic() - started, self.outputs / stage / name)


def assert_happened(fault: str, hits: Path, said: str) -> None:
    """Asserts that each injected fault is in the record: a fault that never happens lets its test pass for nothing.

    kill-at-write is not required: its test counts up to a write that no save makes.
    """
    happened = set(hits.read_text().split()) if hits.exists() else set()
    missed = {each.split()[0] for each in fault.split(";") if each} - happened - {"kill-at-write"}
    assert not missed, f"{sorted(missed)} did not happen:\n{said}"


def command_line(process: psutil.Process) -> list[str]:
    """The command line; empty when the process has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def leftovers(run: Path) -> list[str]:
    """The command lines of all processes that name the run's directory."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if str(run) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]


def assert_same_run(one: Finished, other: Finished) -> None:
    """Asserts equal weights, bit for bit, and equal losses at the same steps."""
    assert one.code == other.code == 0, one.stdout + one.stderr
    first, second = one.weights, other.weights
    assert first.keys() == second.keys() and len(first) > 10
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert one.series("loss") == other.series("loss")
    steps = [
        [row["step"] for row in run.metrics if "loss" in row] for run in (one, other)
    ]  # a stop adds a line with its save
    assert steps[0] == steps[1]
