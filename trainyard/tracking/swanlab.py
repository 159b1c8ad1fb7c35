"""A run as an experiment of SwanLab, which every start of the run continues, in every mode."""

import itertools
import re
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainyard.config.schema import Config
from trainyard.config.secrets import redact
from trainyard.files import read_json, write_json
from trainyard.rundir.directory import RunDir
from trainyard.rundir.status import Status
from trainyard.tracking import swanlab_board
from trainyard.tracking.tracker import Rows

MODES: dict[str, Any] = {"local": "local", "cloud": "online", "offline": "offline", "disabled": "disabled"}
"""SwanLab's own names of the values of tracking.mode."""

METRICS = {
    "tokens_per_second": "speed",
    "mfu": "speed",
    "save_stall_s": "speed",
    "memory_gib": "memory",
    "data_wait": "data",
    "tokens_seen": "data",
    "epoch": "data",
}
"""The section of the dashboard in which a metric is drawn; eval_* go to eval, all others to train."""

SECTIONS = ("train", "eval", "by_tokens", "speed", "memory", "data", "system", "samples")
"""The sections from top to bottom."""

BY_TOKENS = ("loss", "eval_loss")
"""Metrics that are also drawn over the tokens seen, in the section by_tokens: runs may differ in the size of a step."""

FOLDER = "swanlog"
"""Under paths.outputs, for all runs; the dashboard reads it."""

DRAWN = 1500
"""Points of a curve: a dashboard draws no more of them, and SwanLab stores 160 lines of metrics in a second."""


def chart_name(metric: str) -> str:
    """`loss` -> `train/loss`, `eval_loss` -> `eval/loss`."""
    if metric.startswith("eval_"):
        return f"eval/{metric.removeprefix('eval_')}"
    return f"{METRICS.get(metric, 'train')}/{metric}"


def varied(point: str) -> list[str]:
    """The settings in the name of a sweep's point: `lr=1e-3,size=8` -> [`lr=1e-3`, `size=8`]."""
    return re.split(r",(?=[\w.]+=)", point)


class SwanLabRun:
    """One run's experiment, a Tracker. tracking.json in the run directory holds its id, name and colour.

    In cloud mode SwanLab continues the experiment of this id, and ignores lines that it already has. In local and
    offline mode it cannot continue one: there every start is a new experiment, which first repeats the lines up to the
    checkpoint and takes the place of the earlier experiment.
    """

    name = "SwanLab"

    def __init__(self, config: Config, run_dir: RunDir, log_dir: Path):
        """`log_dir` receives the files of every mode, and in local mode the dashboard's database."""
        self.config, self.run_dir, self.log_dir = config, run_dir, log_dir
        self._run: Any = None

    def open(self, rows: Iterable[dict[str, Any]], samples: Rows) -> None:
        """Begins or continues the experiment with the lines of metrics.jsonl and samples.jsonl up to the checkpoint."""
        import swanlab

        settings, sweep = self.config.tracking, self.config.run.sweep
        mode = settings.mode
        self.log_dir.mkdir(parents=True, exist_ok=True)
        known = self._identity()
        earlier = swanlab_board.starts(self.log_dir, known["id"])
        if mode == "offline":
            swanlab_board.retire(self.log_dir, swanlab_board.not_shown(self.log_dir, earlier))
        if mode == "local":
            swanlab_board.retire(self.log_dir, earlier)
            swanlab_board.draw_in_sections()
        points = varied(str(self.config.run.name)) if sweep else []
        self._run = swanlab.init(
            project=settings.project,
            workspace=settings.workspace,
            name=known["name"],
            id=known["id"],
            resume="allow",
            color=known["color"],
            group=sweep,
            job_type=self.config.stage,
            tags=[*settings.tags, *([f"sweep={sweep}", *points] if sweep else [])] or None,
            description=f"of the sweep {sweep}: {', '.join(points)}" if sweep else None,
            config=self._shown(),
            mode=MODES[mode],
            log_dir=str(self.log_dir),
        )
        if mode == "local":
            swanlab_board.name(Path(self._run.dir), known["name"])
            swanlab_board.order_sections(Path(self._run.dir), SECTIONS)
        self._show_example()
        for row in rows:
            self.send(row["step"], row)
        self.show(samples)

    def send(self, step: int, values: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
        ranks = {
            f"system/{key}.{rank}": value
            for key, column in values.get("ranks", {}).items()
            for rank, value in enumerate(column)
        }
        self._run.log({chart_name(key): value for key, value in numbers.items()} | ranks, step=step)
        by_tokens = {f"by_tokens/{key}": numbers[key] for key in BY_TOKENS if key in numbers}
        if by_tokens and "tokens_seen" in numbers:
            self._run.log(by_tokens, step=int(numbers["tokens_seen"]))

    def show(self, samples: Rows) -> None:
        """Answers to sample prompts, as text."""
        import swanlab

        for step, answers in itertools.groupby(samples, key=lambda row: row["step"]):
            texts = [swanlab.Text(_described(row), caption=f"sample {i}") for i, row in enumerate(answers, 1)]
            self._run.log({"samples/answers": texts}, step=step)

    def close(self) -> None:
        """Returns when everything is written or sent."""
        import swanlab

        swanlab.finish()
        if self.config.tracking.mode == "local":  # at the end SwanLab writes its first name again
            swanlab_board.name(Path(self._run.dir), self._identity()["name"])

    def _identity(self) -> dict[str, str]:
        """Id, name and colour, made at the run's first start. A copy of the run directory is another run."""
        run, known = self.config.run, read_json(self.run_dir.tracking)
        place = "/".join(filter(None, [self.config.stage, run.sweep, run.name]))
        if known.get("run") == place:
            return known
        wanted = f"{run.name} of {run.sweep}" if run.sweep else str(run.name)
        known = {
            "run": place,
            "id": uuid.uuid4().hex[:16],
            "name": swanlab_board.free_name(self.log_dir, wanted),
            "color": swanlab_board.free_color(self.log_dir),
        }
        write_json(self.run_dir.tracking, known)
        return known

    def _shown(self) -> dict[str, Any]:
        """The whole config without secrets, the command, the commit and the DeepSpeed JSON."""
        status = Status.read(self.run_dir)
        started = {"command": status.command, "git_commit": status.commit}
        return {**redact(asdict(self.config)), "started": started, "deepspeed_json": read_json(self.run_dir.deepspeed)}

    def _show_example(self) -> None:
        import swanlab

        if self.run_dir.example.is_file():
            text = self.run_dir.example.read_text(encoding="utf-8")
            self._run.log({"samples/learned": swanlab.Text(text, caption="⟦learned⟧")}, step=0)


def _described(sample: dict[str, Any]) -> str:
    ending = "" if sample["finished"] else " [...]"
    return f"{sample['prompt']}\n\n--- model ---\n{sample['response']}{ending}\n\n--- data ---\n{sample['reference']}"
