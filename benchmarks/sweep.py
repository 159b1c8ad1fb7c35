"""The overhead of a sweep, and the gain from running two points at a time.

Run it in the project's environment: python benchmarks/sweep.py [--rounds 3]
Four points of one rank each, which differ in their seed, on prepared data: as a sweep one at a time, as a sweep two at
a time, and as a lone run of one point. The three take turns; figures are medians over the rounds. The overhead is the
time of the sweep one at a time, divided by its points, minus the time of the lone run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Row, show, timed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "sweep.json"
POINTS = 4


def run(outputs: Path, *overrides: str) -> float:
    """Seconds of a pretraining command."""
    size = ["model.hidden_size=64", "model.num_hidden_layers=2", "model.num_attention_heads=2", "data.block_size=64"]
    rest = ["trainer.max_steps=200", "trainer.eval_steps=200", "trainer.save_steps=200", "tracking=none"]
    return timed([sys.executable, "-m", "pretrain", f"paths.outputs={outputs}", *size, *rest, *overrides])


def sweep(outputs: Path, name: str, devices: int) -> float:
    """Seconds of a sweep of POINTS points."""
    seeds = "run.seed=" + ",".join(str(seed) for seed in range(POINTS))
    return run(outputs, "-m", seeds, f"sweep.name={name}", f"launch.num_devices={devices}", "launch.devices_per_job=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    arguments = parser.parse_args()
    rounds: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        run(outputs, "run.name=warm", "launch.num_devices=1")  # makes the tokenizer and the tokens
        for number in range(arguments.rounds):
            lone = run(outputs, f"run.name=lone-{number}", "launch.num_devices=1")
            one = sweep(outputs, f"one-{number}", devices=1)
            two = sweep(outputs, f"two-{number}", devices=2)
            overhead = one / POINTS - lone
            rounds.append(
                {"lone_s": lone, "one_at_a_time_s": one, "two_at_a_time_s": two, "overhead_per_point_s": overhead,
                 "gain": one / two}
            )  # fmt: skip
    figures = {key: round(statistics.median(row[key] for row in rounds), 3) for key in rounds[0]}
    show(f"{POINTS} points", [figures])
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    arguments.out.write_text(json.dumps({"machine": machine, "rounds": len(rounds), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
