"""Lines of metrics, the progress and the screen."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainyard.rundir.messages import Phase
from trainyard.rundir.metrics import MetricsFile, read_metrics
from trainyard.training.callbacks.progress import ProgressCallback


def test_a_line_is_kept_noted_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    noted: list[dict[str, Any]] = []
    rank: Any = SimpleNamespace(say=said.append, note=lambda **news: noted.append(news))
    samples: Any = SimpleNamespace(tokens_seen=lambda step: 512 * step)
    progress = ProgressCallback(rank, MetricsFile(tmp_path / "metrics.jsonl", None), samples)
    state: Any = SimpleNamespace(global_step=4, max_steps=9)
    args: Any = None
    progress.on_train_begin(args, state, args)
    assert noted == [
        {"now": True, "phase": Phase.TRAINING, "step": 4, "max_steps": 9, "tokens_seen": 2048, "eta_s": None}
    ]
    state.global_step = 5
    progress.on_step_end(args, state, args)
    assert noted[-1]["step"] == 5 and noted[-1]["eta_s"] >= 0 and not noted[-1]["now"]
    for logs in (
        {"loss": 2.0, "total_flos": 7, "tokens_per_second": 10.0},
        {"eval_loss": 1.5, "eval_perplexity": 4.4817},
        {"eval_loss": 0.25},
        {"train_runtime": 3.0, "train_loss": 2.5},
    ):
        progress.on_log(args, state, args, logs=logs)
    assert (noted[-1]["loss"], noted[-1]["tokens_per_second"], noted[-1]["now"]) == (2.0, 10.0, True)
    assert said == ["step 5: held-out loss 1.5000, perplexity 4.48", "step 5: held-out loss 0.2500"]
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row == {"step": 5, "loss": 2.0, "tokens_per_second": 10.0, "eval_loss": 0.25, "eval_perplexity": 4.4817}
