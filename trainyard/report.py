"""What a run says at its end."""

import math
import os
import re
import signal
from pathlib import Path
from typing import Any

from trainyard.rundir import RunDir, read_json

LOG_TAIL = 15
"""Lines of the failed rank's log that are shown."""


def finished(run_dir: RunDir, status: dict[str, Any]) -> str:
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
        f"  {'dashboard':14} bash launch/dashboard.sh {_short(run_dir.path.parent.parent)}",
        f"  {'next':14} {_next(run_dir, model)}",
    ]
    return "\n".join(lines)


def _next(run_dir: RunDir, model: str) -> str:
    """The command that one would try now."""
    if run_dir.path.parent.name == "sft":
        return f"python -m trainyard chat {model}"
    return f"bash launch/sft.sh model.path={model}"


def failure(run_dir: RunDir, code: int) -> str:
    """The error of the rank that failed first; the last line is the error itself."""
    errors = [read_json(path) for path in run_dir.logs.glob("rank-*.error.json")]
    errors = sorted((error for error in errors if error), key=lambda error: error.get("time", math.inf))
    killed = re.findall(r"exits with return code = -(\d+)", _read(run_dir.launcher_log))
    if killed:  # it could leave no message, and its peers' complaints about it are not the cause
        number = int(killed[-1])
        name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
        hint = " The machine may have run out of memory: dmesg tells." if number == signal.SIGKILL else ""
        return f"failed: a rank was ended by {name}.{hint} See {_short(run_dir.logs)}"
    if errors:
        first = errors[0]
        return (
            f"{first['traceback'].rstrip()}\n"
            f"rank {first['rank']} failed first; its log is {_short(Path(first['log']))}\n"
            f"rank {first['rank']}: {first['error']}"
        )
    tail = "\n".join(_read(run_dir.launcher_log).splitlines()[-LOG_TAIL:])
    return f"{tail}\nfailed: a rank ended without a message (launcher exit code {code}); see {_short(run_dir.logs)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(path: Path) -> str:
    """Relative to the current directory when it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
