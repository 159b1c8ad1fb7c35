"""A run that is killed at random moments and started again, compared with the same run undisturbed.

Run it in the project's environment: python benchmarks/chaos.py [--kills 30] [--seed 0] [--deepspeed zero2]
After random times one of the run's processes, or all of them, get SIGTERM, SIGINT, SIGUSR1 or SIGKILL. When the command
ends with an exit code other than 0, it is given again. At the end the weights of both runs must be equal bit for bit.

Steps redone are the steps between the checkpoint of the next launch and the kill. A resume is the time from the kill to
the first new step, including the save and the pause between launches. The cost of a kill is the additional time of the
disturbed run, divided by the number of kills.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from trainyard.errors import STOPPED
from trainyard.files import read_json
from trainyard.rundir.metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL)


def command(outputs: Path, name: str, steps: int, deepspeed: str) -> list[str]:
    """The command line of a run of a tiny model."""
    settings = [f"trainer.max_steps={steps}", "trainer.logging_steps=1", "trainer.save_steps=25", "tracking=none"]
    size = ["model.hidden_size=64", "model.num_hidden_layers=2", "model.num_attention_heads=2"]
    rest = ["model.intermediate_size=128", "data.block_size=64", "trainer.eval_steps=50", f"deepspeed={deepspeed}"]
    where = [f"paths.outputs={outputs}", f"run.name={name}", "launch.max_restarts=1000"]
    return ["bash", str(ROOT / "launch" / "pretrain.sh"), *where, *settings, *size, *rest]


PARTS = {
    "pretrain.train": "a rank",
    "deepspeed.launcher.launch": "the launcher's child",
    "bin/deepspeed": "the launcher",
    "-m pretrain": "the controller",
}
"""The processes of a run, by a part of their command lines; the first match counts."""


def part(command: str) -> str:
    """The name of a process of the run, from its command line."""
    return next((name for words, name in PARTS.items() if words in command), "another process of it")


def last_step(run: Path) -> int:
    """The last step in metrics.jsonl; 0 when there is none."""
    rows = read_metrics(run / "metrics.jsonl")
    return int(rows[-1]["step"]) if rows else 0


@dataclass
class Chaos:
    """The disturbed run, and the record of its kills."""

    arguments: list[str]
    run: Path
    draw: random.Random
    longest_s: float
    """Most seconds between a launch and a kill."""
    kills: list[dict[str, Any]] = field(default_factory=list)
    redone: list[int] = field(default_factory=list)
    resumes_s: list[float] = field(default_factory=list)
    _killed_at: float | None = None
    """When the last kill was, until a new step follows it."""
    _reached: int = 0
    """The last step before that kill, or before the first of several kills without a new step between them."""
    _starts: int = 0
    """The number of resumes up to that kill."""

    def until_finished(self, wanted: int) -> float:
        """Gives the command until it ends with 0; the seconds that this takes."""
        started = time.perf_counter()
        while True:
            code = self._once(wanted)
            if code == 0:
                return time.perf_counter() - started
            if code not in (1, STOPPED, -signal.SIGKILL):
                raise RuntimeError(f"exit code {code} after {self.kills[-1]}")

    def _once(self, wanted: int) -> int:
        with (self.run.parent / "chaos.log").open("ab") as log:
            process = subprocess.Popen(self.arguments, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            due = time.perf_counter() + self.draw.uniform(0, self.longest_s)
            while process.poll() is None and (time.perf_counter() < due or len(self.kills) >= wanted):
                self._look()
                time.sleep(0.02)
            if process.poll() is None and len(self.kills) < wanted:
                self._kill(process)
        return process.returncode

    def _look(self) -> None:
        """Notes the first new step after a kill."""
        if self._killed_at is None:
            return
        starts = read_json(self.run / "status.json").get("resumed_from", [])
        if len(starts) > self._starts and read_json(self.run / "progress.json").get("step", 0) > starts[-1]:
            self.redone.append(max(0, self._reached - starts[-1]))
            self.resumes_s.append(time.perf_counter() - self._killed_at)
            self._killed_at = None

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        if self._killed_at is None:
            self._reached = last_step(self.run)
        self._killed_at = time.perf_counter()
        self._starts = len(read_json(self.run / "status.json").get("resumed_from", []))
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        victims = tree if self.draw.random() < 0.2 else [self.draw.choice(tree)]
        number = signal.SIGKILL if len(victims) > 1 else self.draw.choice(SIGNALS)
        names = []
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                names.append(part(" ".join(victim.cmdline())))
                os.kill(victim.pid, number)
        kill = {
            "signal": number.name,
            "processes": len(names),
            "first": names[0] if names else "gone already",
            "step": last_step(self.run),
        }
        self.kills.append(kill)
        print(f"kill {len(self.kills):3}: {kill['signal']:7} at step {kill['step']:5} to {kill['first']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deepspeed", default="zero2")
    parser.add_argument("--longest", type=float, default=25.0, help="most seconds between a launch and a kill")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        outputs = Path(name)
        started = time.perf_counter()
        subprocess.run(
            command(outputs, "peace", arguments.steps, arguments.deepspeed), check=True, stdout=subprocess.DEVNULL
        )
        peace = time.perf_counter() - started
        run = outputs / "pretrain" / "chaos"
        disturbed = command(outputs, "chaos", arguments.steps, arguments.deepspeed)
        chaos = Chaos(disturbed, run, random.Random(arguments.seed), arguments.longest)
        seconds = chaos.until_finished(arguments.kills)
        models = [outputs / "pretrain" / each / "model" / "model.safetensors" for each in ("peace", "chaos")]
        weights = [load_file(model) for model in models]
        equal = all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "kills": len(chaos.kills),
        "weights_equal": equal,
        "undisturbed_s": round(peace, 1),
        "disturbed_s": round(seconds, 1),
        "seconds_lost_per_kill": round((seconds - peace) / max(1, len(chaos.kills)), 1),
        "steps_redone": {
            "median": statistics.median(chaos.redone),
            "most": max(chaos.redone),
            "all": sum(chaos.redone),
        },
        "resume_s": {"median": round(statistics.median(chaos.resumes_s), 1), "most": round(max(chaos.resumes_s), 1)},
        "by": chaos.kills,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "by"}, indent=1))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if equal and len(chaos.kills) == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
