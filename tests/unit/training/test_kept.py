"""What a rank writes into a checkpoint comes back into the objects of the next start."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import TrainerState

from trainyard.checkpoint.rank_state import BadStepsState, BestState, ScheduleState, SpikesState
from trainyard.data.batches.loader import BatchLayout
from trainyard.training.best import BestCheckpoint
from trainyard.training.kept import Kept
from unit.checkpoint_dirs import make

LAYOUT = BatchLayout(rank=0, world_size=1, micro_batch=2, accumulation=1)
SCHEDULE = ScheduleState(2, 10, 10)


def kept(tmp_path: Path, resume: Path | None, said: list[str]) -> tuple[Kept, list[object]]:
    """An object and what the others get back."""
    back: list[object] = []
    samples = SimpleNamespace(tokens_seen=lambda step: 100 * step, skipped=[(1, 2)])
    callbacks: Any = SimpleNamespace(
        stop=SimpleNamespace(evaluation_due=True),
        bad_steps=SimpleNamespace(samples=samples, state=lambda: BadStepsState(total=3), restore=back.append),
        spikes=SimpleNamespace(state=lambda: SpikesState([1.0]), restore=back.append),
    )
    rank: Any = SimpleNamespace(resume=resume, say=said.append)
    return Kept(rank, LAYOUT, callbacks, BestCheckpoint(tmp_path, "eval_loss"), SCHEDULE, None), back


def test_it_comes_back(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoint, best = make(tmp_path, 10), make(tmp_path, 5)
    before, _ = kept(tmp_path, None, said)
    assert before.restore(TrainerState()) is None
    before.best.state = BestState(5, 2.5)
    before.write(checkpoint, 10, loss=0.5, last_logged=9)
    after, back = kept(tmp_path, checkpoint, said)
    state = after.restore(TrainerState(best_metric=2.0))
    assert state is not None and (state.loss, state.last_logged, state.evaluation_due) == (0.5, 9, True)
    assert (state.tokens_seen, state.schedule, state.skipped) == (1000, SCHEDULE, [[1, 2]])
    assert back == [BadStepsState(total=3), SpikesState([1.0])]
    assert after.best.checkpoint == best and said == []


def test_a_best_checkpoint_that_is_lost_is_said_and_later_evaluations_decide(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoint = make(tmp_path, 10)
    before, _ = kept(tmp_path, None, said)
    before.best.state = BestState(5, 2.5)
    before.write(checkpoint, 10, loss=0.5, last_logged=9)
    library = TrainerState(best_metric=2.0)
    kept(tmp_path, checkpoint, said)[0].restore(library)
    assert said == [f"checkpoint-5, the best so far, is not in {tmp_path}: later evaluations decide anew"]
    assert library.best_metric is None
