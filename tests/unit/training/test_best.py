"""The best checkpoint: which one it is, also after resumes, moves and deletions."""

import math
import shutil
from pathlib import Path

import pytest
from transformers import TrainerState

from trainyard.checkpoint.rank_state import BestState
from trainyard.training.best import BestCheckpoint
from unit.checkpoint_dirs import make

EVALUATIONS = {
    # evaluations by step, steps with a checkpoint, the best one's
    "the lowest": ({10: 3.0, 20: 2.0, 30: 2.5}, [10, 20, 30], 20),
    "the first of equal ones": ({10: 2.0, 20: 2.0}, [10, 20], 10),
    "no evaluation without a checkpoint": ({10: 3.0, 15: 1.0, 20: 2.0}, [10, 20], 20),
    "no checkpoint without an evaluation": ({10: 3.0, 30: 4.0}, [10, 20, 30], 10),
    "no evaluation that is not finite": ({10: math.nan, 20: -math.inf, 30: 4.0}, [10, 20, 30], 30),
    "none": ({10: 3.0}, [20], None),
}


@pytest.mark.parametrize(("evaluations", "saved", "best"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_it_is(tmp_path: Path, evaluations: dict[int, float], saved: list[int], best: int | None) -> None:
    found = BestCheckpoint(tmp_path, "eval_loss")
    for step in range(0, 40, 5):
        if step in evaluations:
            found.evaluated(step, {"eval_loss": evaluations[step], "eval_perplexity": 1.0})
        if step in saved:
            found.saved(step)
    assert found.step == best
    assert found.checkpoint == (best and tmp_path / f"checkpoint-{best}")


def test_without_a_metric_to_compare_there_is_no_best(tmp_path: Path) -> None:
    found = BestCheckpoint(tmp_path, None)
    found.evaluated(10, {"eval_loss": 1.0})
    found.saved(10)
    assert found.checkpoint is None


def test_a_resumed_run_goes_on_and_an_evaluation_that_was_due_is_that_of_its_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, 10)
    found = BestCheckpoint(tmp_path, "eval_loss")
    assert found.restore(BestState(10, 3.0), TrainerState()) == ""
    assert found.state == BestState(10, 3.0)
    for step in (15, 20):  # begun from a checkpoint 15 that is not the run's own
        if step == 20:
            make(tmp_path, step)
        found.evaluated(step, {"eval_loss": 2.0})
        found.resumed(step)
    assert found.step == 20


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_best_checkpoint_that_is_lost_is_named_and_forgotten(tmp_path: Path, damage: str) -> None:
    path = make(tmp_path, 10)
    if damage == "gone":
        shutil.rmtree(path)
    else:
        (path / "model.safetensors").write_bytes(b"half")
    found = BestCheckpoint(tmp_path, "eval_loss")
    assert found.restore(BestState(10, 3.0), TrainerState()) == "checkpoint-10"
    assert found.checkpoint is None


def test_the_state_of_version_0_1_is_found_wherever_the_run_lies_now(tmp_path: Path) -> None:
    make(tmp_path, 10)
    history: list[dict[str, float]] = [{"step": 10, "loss": 2.0}, {"step": 10, "eval_loss": 3.0}]
    library = TrainerState(best_metric=1.0, best_model_checkpoint="/before/checkpoint-10", log_history=history)
    found = BestCheckpoint(tmp_path, "eval_loss")
    assert found.restore(None, library) == "" and found.state == BestState(10, 3.0)
    library.log_history = []
    assert found.restore(None, library) == "" and found.state == BestState(10, 1.0)
    assert BestCheckpoint(tmp_path, None).restore(None, library) == ""
