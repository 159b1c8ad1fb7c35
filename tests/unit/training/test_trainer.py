"""The Trainer with an objective of another kind than the causal loss: pairs instead of tokens, and metrics."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from trainyard.data.batches.loader import BatchLayout
from trainyard.training.best import BestCheckpoint
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.order import Callbacks
from trainyard.training.callbacks.stop import StopCallback
from trainyard.training.kept import Kept
from trainyard.training.parts import TrainerParts
from trainyard.training.schedule import begin
from trainyard.training.trainer import Trainer

STEPS, ACCUMULATION = 4, 2


class Scores(torch.nn.Module):
    """A weight for each of two features; takes num_items_in_batch as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.25]))

    def forward(self, features: torch.Tensor, **_: Any) -> torch.Tensor:
        return features @ self.weight


class Preference:
    """Of each pair the first should score higher: the loss is minus the margin, summed over the pairs."""

    def __call__(self, model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        margins = model(batch["chosen"]) - model(batch["rejected"])
        count = batch["num_items_in_batch"]
        return -margins.sum() / count, {"accuracy": (margins > 0).sum() / count}

    def items(self, batch: dict[str, Any]) -> torch.Tensor:
        return torch.tensor(len(batch["chosen"]))

    def derived(self, loss: float) -> dict[str, float]:
        return {}


def batches() -> list[dict[str, torch.Tensor]]:
    """One to three pairs each, so that a mean of means would be another number."""
    torch.manual_seed(3)
    sizes = [1, 3, 2, 2, 3, 1, 1, 2]
    return [{"chosen": torch.randn(size, 2), "rejected": torch.randn(size, 2)} for size in sizes]


class Lines(TrainerCallback):
    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.lines.append(dict(kwargs["logs"]))


@pytest.fixture
def lines(one_rank: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """The lines of four steps of plain gradient descent, two micro batches each, a line every other step."""
    rank: Any = SimpleNamespace(
        say=print, note=lambda **_: None, wants_to_stop=lambda: False, resume=None, resume_step=0, is_first=True, step=0
    )
    batch_layout = BatchLayout(rank=0, world_size=1, micro_batch=1, accumulation=ACCUMULATION)
    stop, log = StopCallback(rank), Lines()
    samples: Any = SimpleNamespace(batch_layout=batch_layout, skipped=())
    callbacks = Callbacks(log, stop, BadSteps(rank, stop, samples, 3), TrainerCallback())  # type: ignore[arg-type]
    datasets: Any = SimpleNamespace(train=list(range(8)), evaluation=None)
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=STEPS, gradient_accumulation_steps=ACCUMULATION,
        logging_steps=2, optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0.0,
        save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    saver: Any = SimpleNamespace(check=lambda: None)
    restorer: Any = SimpleNamespace(remember_settings=lambda optimizer: None)
    best = BestCheckpoint(tmp_path, None)
    kept = Kept(rank, batch_layout, callbacks, best, begin(batch_layout, STEPS), None)
    parts = TrainerParts(
        rank, None, datasets, None, batch_layout, Preference(), callbacks, saver, restorer, best, kept  # type: ignore[arg-type]
    )  # fmt: skip
    trainer = Trainer(Scores(), args, parts)  # type: ignore[arg-type]
    monkeypatch.setattr(trainer, "get_train_dataloader", batches)
    trainer.train()
    return log.lines


def test_loss_and_metrics_are_means_over_the_pairs_of_the_global_batch(lines: list[dict[str, float]]) -> None:
    """The same by hand: for each step one mean over the pairs of both micro batches, and its gradient."""
    weight, given = torch.tensor([0.5, -0.25]), batches()
    losses, accuracies = [], []
    for step in range(STEPS):
        pairs = given[step * ACCUMULATION : (step + 1) * ACCUMULATION]
        differences = torch.cat([batch["chosen"] - batch["rejected"] for batch in pairs])
        margins = differences @ weight
        losses.append(-margins.mean().item())
        accuracies.append((margins > 0).float().mean().item())
        weight = weight + 0.5 * differences.mean(0)
    assert [line["loss"] for line in lines] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])
    assert [line["accuracy"] for line in lines] == pytest.approx([sum(accuracies[:2]) / 2, sum(accuracies[2:]) / 2])
    assert len(lines) == 2 and 0 < sum(accuracies) < STEPS


def test_the_outputs_of_the_model_cannot_be_asked_for() -> None:
    trainer: Any = SimpleNamespace()
    with pytest.raises(AssertionError, match="no outputs"):
        Trainer.compute_loss(trainer, None, {}, return_outputs=True)
