"""Shared by the benchmarks: commands timed as whole processes, tables, and bars that figures must meet."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]


def finished(command: list[str], **env: str) -> Any:
    """The JSON value on the last line of a command's output; an object gets `process_s`, `cpu_s` and `peak_mb`."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | env)
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        measured = {"process_s": time.perf_counter() - started, "peak_mb": usage.ru_maxrss * 1024 / 1e6}
        measured["cpu_s"] = usage.ru_utime + usage.ru_stime  # with all processes that it has waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{command} failed:\n{log.read().decode(errors='replace')[-3000:]}")
    report = json.loads(output.splitlines()[-1])
    return report | measured if isinstance(report, dict) else report


def timed(command: list[str], **env: str) -> float:
    """Seconds from the start of a command to its exit."""
    started = time.perf_counter()
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - started


def show(title: str, rows: list[Row]) -> None:
    """Prints a table under a title."""
    cells = ([format(x, ",.4g" if isinstance(x, float) else "") for x in row.values()] for row in rows)
    lines = [list(rows[0]), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}", *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines), sep="\n  ", flush=True)


def judged(figures: Mapping[str, float], at_least: Mapping[str, float], at_most: Mapping[str, float]) -> list[Row]:
    """A line for each figure with its bar, and whether the figure meets it."""
    rows = []
    for figure, value in figures.items():
        low, high = at_least.get(figure, float("-inf")), at_most.get(figure, float("inf"))
        bar = f">= {low:,}" if figure in at_least else f"<= {high:,}"
        rows.append({"figure": figure, "value": value, "bar": bar, "met": low <= value <= high})
    return rows
