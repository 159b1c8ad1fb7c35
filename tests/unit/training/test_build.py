"""What a Trainer gets that follows from the data; tests/integration builds whole ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import IntervalStrategy

from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.config.schema import TrainerConfig
from trainyard.data.batches.loader import BatchLayout
from trainyard.training import build


def arguments() -> Any:
    return SimpleNamespace(
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        max_steps=-1,
        logging_strategy=IntervalStrategy.STEPS,
        eval_strategy=IntervalStrategy.EPOCH,
        eval_steps=None,
        eval_on_start=True,
        save_strategy=IntervalStrategy.NO,
    )


def test_a_batch_is_laid_out_over_ranks_by_micro_batch_and_accumulation() -> None:
    this: Any = SimpleNamespace(rank=1, world_size=4, resume=None)
    layout = build._batch_layout(this, arguments())
    assert layout == BatchLayout(rank=1, world_size=4, micro_batch=2, accumulation=3)
    assert layout.global_batch == 24


def test_a_resumed_run_goes_on_with_the_samples_of_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    this: Any = SimpleNamespace(rank=0, world_size=4, resume=checkpoint, resume_step=5)
    assert build._batch_layout(this, arguments()).samples_before(6) == 6 * 24  # nothing is known of earlier batches
    (checkpoint / "x").touch()
    Manifest(step=5, samples_seen=80, files=entries(checkpoint)).write(checkpoint)
    layout = build._batch_layout(this, arguments())
    assert [layout.samples_before(step) for step in (5, 6)] == [80, 80 + 24]


@pytest.mark.parametrize(("held_out", "strategy", "on_start"), [
    (["a document"], IntervalStrategy.STEPS, True),
    (None, IntervalStrategy.NO, False),
])  # fmt: skip
def test_steps_follow_from_the_data_and_nothing_is_evaluated_where_nothing_is_held_out(
    held_out: list[str] | None, strategy: IntervalStrategy, on_start: bool
) -> None:
    args = arguments()
    datasets: Any = SimpleNamespace(train=range(100), evaluation=held_out)
    layout = BatchLayout(rank=0, world_size=4, micro_batch=2, accumulation=3)
    build._complete(args, TrainerConfig(global_batch_size=24, num_train_epochs=2.0), datasets, layout)
    assert args.max_steps == 9  # 2 * 100 / 24
    assert (args.eval_strategy, args.eval_steps, args.eval_on_start) == (strategy, 5, on_start)
