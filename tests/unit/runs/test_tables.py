"""Runs in one line, and side by side."""

import json
from pathlib import Path

from trainyard.runs import tables
from unit.run_dirs import make_run, the_run


def test_a_run_in_one_line_for_other_programs(tmp_path: Path) -> None:
    directory = make_run(tmp_path, final=2.0, day=7)
    described = tables.described(the_run(tmp_path), "loss")
    assert json.loads(json.dumps(described)) == {
        "run": "pretrain/default",
        "state": "finished",
        "step": 100,
        "max_steps": 100,
        "metric": "loss",
        "last": described["last"],
        "outcome": described["last"],
        "best": described["last"],
        "best_step": 100,
        "tokens_seen": 204_800,
        "seconds": 1800.0,
        "updated": "2026-11-07T12:00:00+00:00",
        "path": str(directory.path),
    }
    assert 2.0 < described["last"] < 2.1


def test_every_row_of_the_metrics_has_a_value(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 101, "loss": 2.0, "note": "text", "ranks": {"memory_gib": [1.0]}, "gone": null}\n')
    table = tables._measured(the_run(tmp_path))
    names, last = (list(table.columns[number].cells) for number in (0, 1))
    assert {"loss", "eval_loss", "grad_norm"} <= set(names)
    assert len(last) == len(names) and all(last)


def test_runs_are_compared_by_the_settings_in_which_they_differ(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=50)
    make_run(tmp_path, "b", ["trainer.learning_rate=1e-4"], state="failed", seconds=None, steps=-1)
    rows = tables.compared([the_run(tmp_path, name) for name in "ab"], "eval_loss")
    assert rows == [
        [
            "run",
            "trainer.learning_rate",
            "state",
            "step",
            "last eval_loss",
            "best eval_loss",
            "at step",
            "tokens",
            "hours",
        ],
        ["pretrain/a", "0.0015", "finished", "50 of 100", "3.2784", "3.2784", "50", "102k", "0.50"],
        ["pretrain/b", "0.0001", "failed", "-1 of 100", "", "", "", "-2048", ""],
    ]
    assert len(tables.upright(rows).columns) == 3 and tables.upright(rows).row_count == 8
    assert tables.upright([*rows, *rows, *rows]).row_count == 8
