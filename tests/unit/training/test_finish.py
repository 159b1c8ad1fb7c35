"""The last figures of a run."""

import json
from pathlib import Path
from typing import Any

from trainyard.rundir.directory import RunDir
from trainyard.rundir.rank import Rank
from trainyard.training.finish import final_metrics


def test_the_last_value_of_each_metric_and_the_first_of_each_loss(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "eval_loss": 6.0, "eval_perplexity": 403.4},
        {"step": 1, "loss": 5.0, "grad_norm": 2.0, "ranks": {"cpu_percent": [1.0, 2.0]}},
        {"step": 2, "loss": 4.0, "eval_loss": 3.0, "eval_perplexity": 20.1},
    ]
    run = RunDir(tmp_path)
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert final_metrics(Rank(0, 2, run, None)) == {
        "loss": 4.0,
        "grad_norm": 2.0,
        "eval_loss": 3.0,
        "eval_perplexity": 20.1,
        "first_loss": 5.0,
        "first_eval_loss": 6.0,
        "first_eval_perplexity": 403.4,
    }


def test_a_run_without_a_line_has_no_figures(tmp_path: Path) -> None:
    assert final_metrics(Rank(0, 1, RunDir(tmp_path), None)) == {}
