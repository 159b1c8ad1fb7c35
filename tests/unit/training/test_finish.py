"""The announcement of a run, and its last figures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainyard.checkpoint.restore import apply_settings, settings_of
from trainyard.config.schema import Config, DataConfig, SourceConfig
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.store import SourceCounts
from trainyard.rundir.directory import RunDir
from trainyard.rundir.rank import Rank
from trainyard.training.finish import announce, final_metrics, take_evaluation_point


@pytest.mark.parametrize(("world_size", "ranks"), [(1, "1 rank"), (2, "2 ranks")])
def test_the_announcement_counts_the_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world_size: int, ranks: str
) -> None:
    args = SimpleNamespace(bf16=True, fp16=False, max_steps=10)
    batch_layout = BatchLayout(rank=0, world_size=world_size, micro_batch=2, accumulation=3)
    trainer = SimpleNamespace(args=args, batch_layout=batch_layout, model=torch.nn.Linear(2, 2))
    samples = SimpleNamespace(tokens_per_step=48, tokens_seen=lambda step: 48 * step, epochs=lambda step: step / 2)
    callbacks = SimpleNamespace(bad_steps=SimpleNamespace(samples=samples))
    training: Any = SimpleNamespace(trainer=trainer, callbacks=callbacks)
    plan = SimpleNamespace(fill=0.5, documents=200, shortened=30, dropped=1)
    counts = SimpleNamespace(sources=[SourceCounts(5, 9, empty=3)])
    store = SimpleNamespace(masked=ranks == "2 ranks", summary=counts)
    train: Any = type("Sequences", (list,), {"plan": plan, "store": store})([0] * 12)
    datasets: Any = SimpleNamespace(train=train, evaluation=None)
    (tmp_path / "logs").mkdir()
    data = DataConfig(block_size=64, sources=[SourceConfig(path="a.txt", format="text")])
    announce(Rank(0, world_size, RunDir(tmp_path), None), Config(stage="pretrain", data=data), training, datasets)
    said = capsys.readouterr().out
    assert f"({ranks} x 2 sequences x 3 accumulated)" in said and "10 steps = 480 tokens = 5.00 epochs" in said
    assert "note       a.txt: 3 empty documents are left out\n" in said
    told = (
        "lengths    200 conversations, 30 shortened (15.0%), 1 left out (0.5%) by data.block_size=64, truncation=back\n"
    )
    assert (told in said) == store.masked
    assert "goes on" not in said
    trainer.batch_layout = replace(batch_layout, first_step=4, first_sample=100)
    announce(Rank(0, world_size, RunDir(tmp_path), None), Config(stage="pretrain", data=data), training, datasets)
    assert "goes on    from step 4, after 100 sequences" in capsys.readouterr().out


def test_the_last_value_of_each_metric_and_the_first_of_each_loss(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "eval_loss": 6.0, "eval_perplexity": 403.4},
        {"step": 1, "loss": 5.0, "grad_norm": 2.0, "ranks": {"cpu_percent": [1.0, 2.0]}},
        {"step": 2, "loss": 4.0, "eval_loss": 3.0, "eval_perplexity": 20.1},
    ]
    run = RunDir(tmp_path)
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert final_metrics(Rank(0, 2, run, None), 1) == {
        "loss": 5.0,
        "grad_norm": 2.0,
        "eval_loss": 6.0,
        "eval_perplexity": 403.4,
        "first_loss": 5.0,
        "first_eval_loss": 6.0,
        "first_eval_perplexity": 403.4,
    }
    assert final_metrics(Rank(0, 2, run, None), 2) == {
        "loss": 4.0,
        "grad_norm": 2.0,
        "eval_loss": 3.0,
        "eval_perplexity": 20.1,
        "first_loss": 5.0,
        "first_eval_loss": 6.0,
        "first_eval_perplexity": 403.4,
    }


def test_a_run_without_a_line_has_no_figures(tmp_path: Path) -> None:
    assert final_metrics(Rank(0, 1, RunDir(tmp_path), None), 5) == {}


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al., 2024), with the groups and the switches of the schedulefree package."""

    def __init__(self, parameters: Any, lr: float = 0.1, beta: float = 0.9):
        super().__init__(parameters, {"lr": lr, "beta": beta, "k": 0, "train_mode": True})

    def _move(self, weight: Any, train_mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != train_mode:
                for parameter in group["params"]:
                    if "z" in self.state[parameter]:
                        parameter.data.lerp_(self.state[parameter]["z"], weight(group["beta"]))
                group["train_mode"] = train_mode

    def train(self) -> None:
        self._move(lambda beta: 1 - beta, True)

    def eval(self) -> None:
        self._move(lambda beta: 1 - 1 / beta, False)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            assert group["train_mode"]
            group["k"] += 1
            for y in group["params"]:
                z = self.state[y].setdefault("z", y.clone())
                x = y.lerp(z, 1 - 1 / group["beta"])
                z.sub_(y.grad, alpha=group["lr"])
                y.copy_(x.lerp(z, 1 / group["k"]).lerp(z, 1 - group["beta"]))


def test_a_schedule_free_run_saves_the_point_that_it_evaluates() -> None:
    def losses(optimizer: ScheduleFree, parameter: torch.nn.Parameter, steps: int) -> None:
        for _ in range(steps):
            optimizer.train()  # as the library does before each step
            optimizer.zero_grad()
            (parameter - 3).square().sum().backward()
            optimizer.step()

    whole = torch.nn.Parameter(torch.zeros(2))
    optimizer = ScheduleFree([whole])
    losses(optimizer, whole, 6)
    trained = whole.detach().clone()
    take_evaluation_point(optimizer)
    assert not torch.equal(whole, trained) and not optimizer.param_groups[0]["train_mode"]
    take_evaluation_point(torch.optim.SGD([whole]))  # has one point only

    parameter = torch.nn.Parameter(torch.zeros(2))
    first = ScheduleFree([parameter])
    losses(first, parameter, 3)
    first.eval()  # an evaluation before the save
    second = ScheduleFree([parameter])
    settings = settings_of(second)
    second.load_state_dict(first.state_dict())
    apply_settings(second, SimpleNamespace(), settings)
    assert (second.param_groups[0]["k"], second.param_groups[0]["train_mode"]) == (3, False)
    losses(second, parameter, 3)
    take_evaluation_point(second)
    assert torch.allclose(parameter, whole)
