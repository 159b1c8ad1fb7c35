"""What a start pays for the history of its run: reading 300,000 lines of metrics, and the state of the Trainer.

Run it in the project's environment: python benchmarks/history.py [--lines 300000]
"all" is how version 0.1 did it: every line is parsed, kept and written again, and the Trainer's state in a checkpoint
holds every line too. Each part is a process of its own, without the imports of a rank, and its peak memory is that of
the process.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

from measure import Row, finished, show

RESULTS = Path(__file__).resolve().parent / "results" / "history.json"

PARTS = {
    "metrics.jsonl": """
from trainyard.rundir.metrics import MetricsFile
MetricsFile(path, last)
""",
    "metrics.jsonl, all": """
from trainyard.files import json_lines, write_text
from trainyard.rundir.metrics import read_metrics
rows = [row for row in read_metrics(path) if row["step"] <= last]
write_text(path, json_lines(rows))
""",
    "lines for the tracker": """
from trainyard.rundir.metrics import History
History(path).thinned(1500)
""",
    "state of the Trainer": """
json.loads(path.with_name("trainer_state.json").read_text())
""",
    "state of the Trainer, all": """
json.loads(path.with_name("trainer_state_all.json").read_text())
""",
}

FRAME = """
import json, sys, time
from pathlib import Path
import trainyard.rundir.metrics
path, last = Path(sys.argv[1]), int(sys.argv[2])
began = time.perf_counter()
{part}
print(json.dumps({{"seconds": time.perf_counter() - began}}))
"""


def line(step: int) -> Row:
    """A line of a run on two ranks."""
    return {
        "step": step, "loss": 2.5 + 1 / step, "grad_norm": 1.0 / step, "learning_rate": 3e-4, "epoch": step / 1e5,
        "tokens_seen": step * 65536, "tokens_per_second": 12345.6, "data_wait": 0.00012,
        "ranks": {"cpu_percent": [50.1, 51.2], "memory_gib": [0.69, 0.7]}, "memory_gib": 0.7,
    }  # fmt: skip


def write(folder: Path, lines: int) -> Path:
    """A metrics.jsonl, and the Trainer's state without and with its lines; one line at a time, for a child begins with
    the peak memory of its parent.
    """
    path = folder / "metrics.jsonl"
    with path.open("w") as stream:
        stream.writelines(json.dumps(line(step)) + "\n" for step in range(1, lines + 1))
    kept = ("epoch", "grad_norm", "learning_rate", "loss", "step")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": lines, "log_history": []}))
    with (folder / "trainer_state_all.json").open("w") as stream:
        stream.write(f'{{"global_step": {lines}, "log_history": [')
        for step in range(1, lines + 1):
            stream.write("," * (step > 1) + json.dumps({key: line(step)[key] for key in kept}, indent=2))
        stream.write("]}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for lines in (arguments.lines // 100, arguments.lines):
            path = write(Path(place), lines)
            for name, part in PARTS.items():
                found = finished([sys.executable, "-c", FRAME.format(part=part), str(path), str(lines - 100)])
                rows.append({"part": name, "lines": lines, "seconds": found["seconds"], "peak_mb": found["peak_mb"]})
    show("what a start pays for its history", rows)
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    arguments.out.write_text(json.dumps({"time": time.strftime("%Y-%m-%d"), **machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
