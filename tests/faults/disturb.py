"""Faults done to real runs on two CPU ranks, and the same runs left undisturbed to compare with."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from conftest import Finished, Pretrain, clean_env, command

INJECT = Path(__file__).parent / "inject"
SLOW = "trainer.eval_steps=1"
"""An evaluation after every step: the weights stay the same, and there is time to disturb."""
WAIT_S = 120.0


@dataclass
class Live:
    """A run while it is on."""

    process: subprocess.Popen[str]
    run: Path

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Returns as soon as something is so, which the run itself brings about."""
        deadline = time.monotonic() + WAIT_S
        while not happened():
            assert time.monotonic() < deadline, "it never came to that"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)

    def wait_for_step(self, step: int) -> None:
        """Until metrics.jsonl has a step's loss."""
        wanted = f'{{"step": {step}, "loss"'
        metrics = self.run / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and wanted in metrics.read_text())

    def members(self, part: str) -> list[psutil.Process]:
        """The run's processes whose command line has a part, parents first."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                found += [process] * (part in " ".join(process.cmdline()))
        return found

    def rank(self, number: int) -> int:
        return int((self.run / "logs" / f"rank-{number}.pid").read_text().split()[1])

    def end(self) -> Finished:
        """What the command says and leaves, once it has ended."""
        stdout, stderr = self.process.communicate(timeout=WAIT_S)
        return Finished(self.process.returncode, stdout, stderr, 0.0, self.run)


@dataclass
class Faults:
    outputs: Path
    corpus: Path
    pretrain: Pretrain

    def start(self, name: str, *overrides: str, fault: str | None = None, once: bool = True, **variables: str) -> Live:
        """Begins a run, with a fault injected into its ranks, which happens once in all or at every launch."""
        env = dict(variables)
        if fault:
            env |= {"PYTHONPATH": str(INJECT), "FAULT": fault}
            env |= {"FAULT_ONCE": str(self.outputs / f"{name}.fault")} if once else {}
        process = subprocess.Popen(
            command(self.outputs, name, self.corpus, *overrides), env=clean_env(**env), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return Live(process, self.outputs / "pretrain" / name)

    def again(self, name: str, *overrides: str) -> Finished:
        """The same command, undisturbed."""
        return self.pretrain(name, *overrides)


def leftovers(run: Path) -> list[str]:
    """Processes that still have to do with a run."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if str(run) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]


def assert_same_run(one: Finished, other: Finished) -> None:
    """The same weights bit for bit, and the same losses line by line."""
    assert one.code == other.code == 0, one.stdout + one.stderr
    first, second = one.weights, other.weights
    assert first.keys() == second.keys() and len(first) > 10
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert one.series("loss") == other.series("loss")
    assert [row["step"] for row in one.metrics] == [row["step"] for row in other.metrics]


def status(run: Path) -> dict[str, object]:
    return dict(json.loads((run / "status.json").read_text()))
