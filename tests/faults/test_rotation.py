"""Which checkpoints stay, and which model is left: options of saving crossed with stops, kills, ends and resumes."""

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Finished
from disturb import Warm, assert_same_run
from safetensors.torch import load_file

from trainyard.checkpoint.directory import list_checkpoints, newest_good
from trainyard.checkpoint.manifest import verify

SETTINGS = [
    "deepspeed=zero2", "data.max_sequences=40", "trainer.eval_steps=5", "trainer.save_steps=5", "trainer.max_steps=15",
    "trainer.lr_scheduler_type=constant_with_warmup", "trainer.warmup_steps=15", "trainer.learning_rate=0.1",
    "trainer.include_num_input_tokens_seen=all", "tracking=none", "launch.max_restarts=0",
]  # fmt: skip
"""Forty sequences, five steps an epoch: evaluations at the steps 5, 10 and 15. The rising rate makes each one worse."""

PATIENCE = "trainer.early_stopping_patience=1"
LOAD = "trainer.load_best_model_at_end=true"
BEST = {"none": [], "patience": [PATIENCE], "load": [LOAD], "load, patience": [LOAD, PATIENCE]}
STRATEGY = {
    "steps": [],
    "epoch": ["trainer.eval_strategy=epoch", "trainer.save_strategy=epoch"],
    "best": ["trainer.save_strategy=best"],
}
FAULT = {
    "end": "",
    "stop": "stop-in-forward 1 7",
    "stop in an evaluation": "stop-in-evaluation 1 5",
    "kill in a save": "kill-in-save 1 10",
    "kill after the last save": "kill-at-the-end 0 {last}",
}
LIMIT = [1, 2, None]
ROWS: list[tuple[int | None, str, str, bool, str]] = [
    # limit, best, strategy, asynchronous, fault
    (1, "load, patience", "epoch", True, "stop"),
    (None, "load, patience", "best", True, "stop in an evaluation"),
    (2, "load", "epoch", False, "stop in an evaluation"),
    (2, "patience", "best", True, "end"),
    (None, "none", "steps", False, "kill after the last save"),
    (1, "none", "best", False, "kill in a save"),
    (None, "load", "steps", True, "kill in a save"),
    (1, "patience", "steps", False, "stop"),
    (2, "load, patience", "steps", False, "end"),
    (None, "patience", "epoch", True, "kill after the last save"),
    (1, "none", "epoch", True, "end"),
    (1, "load", "best", True, "kill after the last save"),
    (2, "none", "best", False, "stop"),
    (2, "load, patience", "epoch", True, "kill in a save"),
    (1, "none", "steps", True, "stop in an evaluation"),
    (None, "load", "steps", True, "end"),
    (None, "load", "best", True, "stop"),
    (2, "load, patience", "epoch", True, "kill after the last save"),
    (None, "patience", "epoch", False, "kill in a save"),
    (2, "patience", "epoch", True, "stop in an evaluation"),
]
"""Every pair of values of any two columns occurs, see the next test."""
REPRESENTATIVE = 2
"""So many rows, the first ones, run by default."""


def test_every_pair_of_values_occurs() -> None:
    columns: list[set[Any]] = [set(LIMIT), set(BEST), set(STRATEGY), {True, False}, set(FAULT)]
    for one, other in itertools.combinations(range(5), 2):
        assert {(row[one], row[other]) for row in ROWS} == set(itertools.product(columns[one], columns[other]))


@pytest.fixture(scope="module")
def undisturbed(warm: Warm, corpus: Path) -> Any:
    """Runs without a fault and without a limit, by what decides over the model that is left; each is run once."""

    @functools.cache
    def run(best: str, strategy: str) -> Finished:
        name = f"rotation {best} {strategy}".replace(",", "").replace(" ", "-")
        done = warm(name, corpus, *SETTINGS, *BEST[best], *STRATEGY[strategy], "trainer.save_total_limit=null")
        assert done.code == 0, done.stdout + done.stderr
        evaluations = {row["step"]: row["eval_loss"] for row in done.metrics if "eval_loss" in row}
        assert evaluations.keys() == ({0, 5, 10} if "patience" in best else {0, 5, 10, 15})
        assert min(evaluations, key=lambda step: evaluations[step]) == 5, "the best model is not the last"
        return done

    return run


@pytest.mark.parametrize(
    ("limit", "best", "strategy", "asynchronous", "fault"),
    [pytest.param(*row, marks=[] if i < REPRESENTATIVE else pytest.mark.slow) for i, row in enumerate(ROWS)],
)
@pytest.mark.faults(
    case="11", fault="save_total_limit, best model, early stopping and save_strategy with a stop, a kill, an end"
)
def test_the_newest_and_the_best_stay_and_the_same_model_is_left(
    warm: Warm, corpus: Path, undisturbed: Any,
    limit: int | None, best: str, strategy: str, asynchronous: bool, fault: str,
) -> None:  # fmt: skip
    expected = undisturbed(best, strategy)
    last = 10 if "patience" in best else 15
    name = f"rotated {limit} {best} {strategy} {fault}".replace(",", "").replace(" ", "-")
    settings = [
        *SETTINGS, *BEST[best], *STRATEGY[strategy], f"trainer.save_total_limit={'null' if limit is None else limit}",
        f"trainer.async_save={str(asynchronous).lower()}",
    ]  # fmt: skip
    injected = FAULT[fault].format(last=last)
    if strategy == "best" and "kill-in-save" in injected:
        injected = "kill-in-save 1 5"  # later evaluations are worse, and nothing is saved
    done = warm(name, corpus, *settings, fault=injected)
    assert done.code == (0 if not injected else 75 if "stop" in injected else 1), done.stdout + done.stderr
    if injected:
        if done.code == 75:
            good, passed_over = newest_good(done.run / "checkpoints")
            assert good is not None and good.step == done.status["step"] and passed_over == []
        done = warm(name, corpus, *settings)
    assert_same_run(done, expected)
    assert len(done.series("loss")) == len(done.series("num_input_tokens_seen")) - 1 == last
    kept = dict(list_checkpoints(done.run / "checkpoints"))
    assert kept and all(verify(path) is None for path in kept.values())
    assert limit is None or len(kept) <= limit + ("none" not in best or strategy == "best")
    saved = 5 if strategy == "best" else last
    assert saved in kept and (best == "none" or 5 in kept)
    model_step = 5 if "load" in best else last
    assert done.status["model_step"] == expected.status["model_step"] == model_step
    row = next(row for row in done.metrics if row["step"] == model_step)
    assert done.status["final"]["eval_loss"] == row["eval_loss"]
    if model_step in kept:
        weights = load_file(kept[model_step] / "model.safetensors")
        assert all(torch.equal(tensor, weights[name]) for name, tensor in done.weights.items())
