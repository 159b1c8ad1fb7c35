"""The announcement of a run, and its last figures."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainyard.config.schema import Config, DataConfig, SourceConfig
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.store import SourceCounts
from trainyard.rundir.directory import RunDir
from trainyard.rundir.rank import Rank
from trainyard.training.finish import announce, final_metrics


@pytest.mark.parametrize(("world_size", "ranks"), [(1, "1 rank"), (2, "2 ranks")])
def test_the_announcement_counts_the_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world_size: int, ranks: str
) -> None:
    args = SimpleNamespace(bf16=True, fp16=False, max_steps=10)
    batch_layout = BatchLayout(rank=0, world_size=world_size, micro_batch=2, accumulation=3)
    trainer = SimpleNamespace(args=args, batch_layout=batch_layout, model=torch.nn.Linear(2, 2))
    callbacks = SimpleNamespace(speed=SimpleNamespace(tokens_per_step=48))
    training: Any = SimpleNamespace(trainer=trainer, callbacks=callbacks)
    store = SimpleNamespace(summary=SimpleNamespace(sources=[SourceCounts(5, 9, empty=3)]))
    train: Any = type("Sequences", (list,), {"plan": SimpleNamespace(fill=0.5), "store": store})([0] * 12)
    datasets: Any = SimpleNamespace(train=train, evaluation=None)
    (tmp_path / "logs").mkdir()
    config = Config(stage="pretrain", data=DataConfig(sources=[SourceConfig(path="a.txt", format="text")]))
    announce(Rank(0, world_size, RunDir(tmp_path), None), config, training, datasets)
    said = capsys.readouterr().out
    assert f"({ranks} x 2 sequences x 3 accumulated)" in said
    assert "note       a.txt: 3 empty documents are left out\n" in said


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
