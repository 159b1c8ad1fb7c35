"""What came of the points of a sweep: results.json and results.csv."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainyard.rundir import RunDir, write_json

Row = dict[str, Any]

OUTCOME = ("state", "exit_code", "metric", "best", "step", "max_steps", "tokens_seen", "seconds")


def row(point_name: str, settings: dict[str, str], run: RunDir, metric: str, maximize: bool, **known: Any) -> Row:
    """One point: what it is, its state, and its metric at the end and at its best.

    Args:
        known: what this command knows better than the run's status.json, as the state of a run that it has started.
    """
    status = run.read_status()
    values = [line[metric] for line in _lines(run.metrics) if isinstance(line.get(metric), int | float)]
    best = (max if maximize else min)(values, default=None)
    outcome = {key: status.get(key) for key in OUTCOME} | {"metric": values[-1] if values else None, "best": best}
    outcome["state"] = outcome["state"] or "pending"
    return {"point": point_name, **settings, **outcome, **known, "run": str(run.path)}


def write(folder: Path, metric: str, maximize: bool, rows: Sequence[Row]) -> None:
    """Replaces both files, each in one step."""
    write_json(folder / "results.json", {"metric": metric, "maximize": maximize, "points": list(rows)})
    text = io.StringIO()
    columns = list(dict.fromkeys(key for each in rows for key in each))
    table = csv.DictWriter(text, [metric if key == "metric" else key for key in columns])
    table.writeheader()
    table.writerows({metric if key == "metric" else key: value for key, value in each.items()} for each in rows)
    staging = folder / ".results.csv"
    staging.write_text(text.getvalue(), encoding="utf-8")
    staging.replace(folder / "results.csv")


def ranked(rows: Iterable[Row], maximize: bool) -> list[Row]:
    """Finished points, the best first."""
    finished = [each for each in rows if each["state"] == "finished" and each["metric"] is not None]
    return sorted(finished, key=lambda each: each["metric"], reverse=maximize)


def _lines(metrics: Path) -> list[dict[str, Any]]:
    """Every line of metrics.jsonl that is whole."""
    lines = []
    try:
        text = metrics.read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
