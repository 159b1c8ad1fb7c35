import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.config.schema import SweepConfig
from trainyard.errors import ConfigError
from trainyard.rundir.directory import RunDir
from trainyard.sweeps.grid import Grid, Point, read
from trainyard.sweeps.results import Results, Row


def leave(folder: Path, point: Point, state: str, *losses: float) -> None:
    """Writes the files that the run of a point leaves in its directory."""
    (folder / point.name).mkdir(parents=True)
    RunDir(folder / point.name).write_status({"state": state, "step": len(losses)})
    lines = [json.dumps({"step": step, "eval_loss": loss}) + "\n" for step, loss in enumerate(losses)]
    (folder / point.name / "metrics.jsonl").write_text("".join(lines))


def test_results_say_what_came_of_each_point(tmp_path: Path) -> None:
    request = read("pretrain", ["run.seed=1,2,3,4,5", "sweep.name=x"])
    found = Grid(request).points
    leave(tmp_path, found[0], "finished", 5.0, 3.0, 4.0)
    leave(tmp_path, found[1], "finished", 5.0, 3.5)
    leave(tmp_path, found[2], "failed", 5.0)
    leave(tmp_path, found[3], "running", 5.0)
    results = Results(tmp_path, request.config.sweep)
    assert [results.state(point) for point in found] == ["finished", "finished", "failed", "dead", "pending"]
    results.known[found[4].name] = "failed"  # it was refused, and left nothing
    best = results.best(found)
    assert best is not None and (best[0], best[1]) == (found[1], 3.5)
    results.write(found)
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run.seed"], row["state"], row["eval_loss"], row["best"]) for row in rows] == [
        ("1", "finished", "4.0", "3.0"), ("2", "finished", "3.5", "3.5"), ("3", "failed", "5.0", ""),
        ("4", "dead", "5.0", ""), ("5", "failed", "", ""),
    ]  # fmt: skip
    later = Results(tmp_path, request.config.sweep)
    assert [later.state(point) for point in found] == ["finished", "finished", "failed", "dead", "failed"]
    other = read("pretrain", ["run.seed=5,6", "sweep.name=x"])
    Results(tmp_path, other.config.sweep).write(Grid(other).points)
    kept = json.loads((tmp_path / "results.json").read_text())["points"]
    assert [(row["run.seed"], row["state"]) for row in kept][3:] == [("4", "dead"), ("5", "failed"), ("6", "pending")]
    missing = [row.metric for row in Results(tmp_path, replace(other.config.sweep, metric="eval_accuracy")).measured()]
    assert missing[:2] == [None, None], "no run has that metric"
    (curve, *_) = [row.curve for row in later.measured()]
    assert curve == {0: 5.0, 1: 3.0, 2: 4.0}


def test_a_row_follows_its_run(tmp_path: Path) -> None:
    request = read("pretrain", ["run.seed=1,2", "sweep.name=x"])
    point = Grid(request).points[0]
    leave(tmp_path, point, "running", 5.0)
    results = Results(tmp_path, request.config.sweep)
    assert (results.row(point).metric, results.row(point).best) == (5.0, None), "the run has not made a step"
    with (tmp_path / point.name / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 1, "eval_loss": 4.0}\n')
    assert results.row(point).best == 4.0
    assert results.row(point) is results.row(point), "what has not changed is not read again"


def test_a_row_is_its_line_in_the_files() -> None:
    row = Row(point="seed=1", settings={"run.seed": "1"}, state="finished", metric=2.0, curve={1: 2.0})
    assert list(row.to_json()) == [
        "point", "run.seed", "state", "metric", "best", "exit_code", "step", "max_steps", "tokens_seen", "seconds",
        "run",
    ]  # fmt: skip
    assert Row.from_json(row.to_json()) == replace(row, curve={})


@pytest.mark.parametrize("points", [3, [3], [{}], [{"point": "a"}]])
def test_a_damaged_table_is_named(tmp_path: Path, points: object) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"points": points}))
    with pytest.raises(ConfigError, match=r"results\.json: damaged .*Delete it: the points' directories have the rest"):
        Results(tmp_path, SweepConfig())
