"""What a run says at its end."""

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainyard import INSTALLED
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.control.attempt import Attempt
from trainyard.errors import WRONG
from trainyard.files import read_json
from trainyard.rundir.directory import RunDir


def say(text: str, *, wrong: bool = False) -> None:
    """Prints at once. A reader that has gone, as with `| head`, costs the run nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr if wrong else sys.stdout, flush=True)


def refuse(problems: Sequence[str]) -> int:
    """Names every mistake of a request."""
    for problem in problems:
        say(f"error: {problem}", wrong=True)
    return WRONG


LOG_TAIL = 15
"""Lines of the failed rank's log that are shown."""


def finished(config: Config, run_dir: RunDir, status: dict[str, Any]) -> str:
    """The summary: figures before and after, where the model is, what to do next."""
    final = status.get("final", {})
    lines = [f"{run_dir.path.name}: finished, {status.get('step')} steps, {status.get('tokens_seen') or 0:,} tokens"]
    for label, name in (("train loss", "loss"), ("held-out loss", "eval_loss"), ("perplexity", "eval_perplexity")):
        if name in final:
            first = final.get(f"first_{name}")
            before = "" if first is None else f"{first:.4f} -> "
            lines.append(f"  {label:14} {before}{final[name]:.4f}")
    model = _short(run_dir.model)
    if run_dir.samples.is_file():
        lines.append(f"  {'samples':14} {_short(run_dir.samples)}")
    lines += [
        f"  {'model':14} {model}",
        f"  {'dashboard':14} {_dashboard(Path(config.paths.outputs))}",
        f"  {'next':14} {STAGES[config.stage].next(model)}",
    ]
    return "\n".join(lines)


def _dashboard(outputs: Path) -> str:
    """The command that shows the metrics of all runs in a browser."""
    return (
        f"swanlab watch {_short(outputs / 'swanlog')}" if INSTALLED else f"bash launch/dashboard.sh {_short(outputs)}"
    )


class Failure(NamedTuple):
    """How a launch went wrong."""

    text: str
    """What is shown when it is the end; the last line is the error itself."""
    step: int | None
    """The last step that was finished; None when the training had not begun."""
    final: bool
    """Would another launch meet it again?"""

    @property
    def line(self) -> str:
        return self.text.splitlines()[-1]


def rolled_back(run_dir: RunDir) -> bool:
    """Did the ranks leave to go on from the newest checkpoint in another way?"""
    return any(read_json(path).get("rollback") for path in run_dir.logs.glob("rank-*.error.json"))


def failure(run_dir: RunDir, attempt: Attempt) -> Failure:
    """What a launch has left: the error of the rank that failed first."""
    logs = _short(run_dir.logs)
    step = attempt.progress.get("step")
    if attempt.hung is not None:
        text = f"no progress for {attempt.hung:g} s (launch.hang_timeout_s); the stacks of all ranks are in {logs}"
        return Failure(f"failed: {text}", step, final=False)
    errors = [read_json(path) for path in run_dir.logs.glob("rank-*.error.json")]
    errors = sorted((error for error in errors if error), key=lambda error: error.get("time", math.inf))
    if attempt.killed:  # it could leave no message, and its peers' complaints about it are not the cause
        ranks = " and ".join(f"rank {rank}" for rank in attempt.killed)
        text = f"failed: {ranks} died without a message: killed, or out of memory (dmesg tells). See {logs}"
        return Failure(text, step, final=False)
    tail = "\n".join(_read(run_dir.launcher_log).splitlines()[-LOG_TAIL:])
    if attempt.lost:  # its peers' complaints are not the cause here either
        text = f"{tail}\nfailed: {' and '.join(attempt.lost)} is gone, or ssh does not get through; see {logs}"
        return Failure(text, step, final=False)
    if errors:
        first = errors[0]
        text = (
            f"{first['traceback'].rstrip()}\n"
            f"rank {first['rank']} failed first; its log is {_short(Path(first['log']))}\n"
            f"rank {first['rank']}: {first['error']}"
        )
        return Failure(text, first["step"], first["final"])
    text = f"{tail}\nfailed: a rank or the launcher ended without a message (exit code {attempt.code}); see {logs}"
    return Failure(text, step, final=False)


def last_line(log: Path) -> str:
    """What went wrong, as Python puts it, and where the rest is."""
    lines = _read(log).strip().splitlines()
    return f"{lines[-1] if lines else 'no message'}. See {_short(log)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(path: Path) -> str:
    """Relative to the current directory when it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
