"""The place of a step on the schedule of the learning rate, after changes of the global batch and of the length."""

from pathlib import Path

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.checkpoint.rank_state import RankState, ScheduleState
from trainyard.data.batches.loader import BatchLayout
from trainyard.training import schedule
from trainyard.training.schedule import begin, go_on, place


def of(micro_batch: int) -> BatchLayout:
    return BatchLayout(rank=0, world_size=1, micro_batch=micro_batch, accumulation=1)


PLAIN = begin(of(8), 100)


def test_every_step_of_a_plain_run_has_its_own_place_to_the_bit() -> None:
    assert [place(PLAIN, step) for step in (0, 7, 100)] == [0, 7, 100]
    assert all(isinstance(place(PLAIN, step), int) for step in range(101))
    assert go_on(PLAIN, of(8), 40, 100) is PLAIN


@pytest.mark.parametrize(("batch", "steps"), [(16, 75), (4, 150), (8, 100), (10, 90)])
def test_another_global_batch_goes_on_at_the_same_place_and_ends_at_the_end(batch: int, steps: int) -> None:
    """After half of 800 samples the other half is laid out over as many steps as it takes."""
    changed = go_on(PLAIN, of(batch), 50, steps)
    assert place(changed, 50) == 50 and place(changed, steps) == 100
    for step in range(50, steps):
        samples = 400 + batch * (step - 50)
        assert place(changed, step) == pytest.approx(samples / 8)
    assert go_on(changed, of(batch), 60, steps) is changed, "a further resume changes no bit"


def test_it_changes_twice() -> None:
    once = go_on(PLAIN, of(16), 50, 75)
    twice = go_on(once, of(8), 60, 90)
    assert (place(twice, 60), place(twice, 61), place(twice, 90)) == (70, 71, 100)


def test_another_length_begins_a_schedule_of_that_length() -> None:
    assert go_on(PLAIN, of(8), 100, 200) == begin(of(8), 200)
    changed = go_on(PLAIN, of(16), 50, 75)
    longer = go_on(changed, of(16), 75, 100)
    assert [place(longer, step) for step in (75, 76, 100)] == [100, 101, 125] and longer.total == 125
    assert place(go_on(PLAIN, of(16), 100, 150), 100) == 100, "nothing remains of the schedule"
    assert go_on(PLAIN, of(16), 100, 150).total == 150


def test_a_scheduler_is_stretched_from_where_it_was() -> None:
    def rates(changed: ScheduleState, first: int, stop: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        scheduler = get_cosine_schedule_with_warmup(optimizer, 10, changed.total)
        schedule.stretch(scheduler, changed)
        assert "lr_lambdas" not in str([value for value in scheduler.state_dict()["lr_lambdas"] if value])
        return [scheduler.lr_lambdas[0](step) for step in range(first, stop)]

    plain = rates(PLAIN, 0, 101)
    doubled = rates(go_on(PLAIN, of(16), 50, 75), 50, 76)
    assert doubled == pytest.approx(plain[50:101:2])


def test_a_schedule_of_another_kind_is_left_alone() -> None:
    schedule.stretch(object(), go_on(PLAIN, of(16), 50, 75))


def test_a_jump_names_the_lengths_that_cause_it() -> None:
    longer = begin(of(8), 2000)
    assert schedule.jump(0.0, 1.5e-4, PLAIN, longer) == (
        "the learning rate jumps from 0 to 0.00015: the run had 100 steps, and now has 2,000"
    )
    assert schedule.jump(1e-3, 1e-4, PLAIN, PLAIN) == "the learning rate jumps from 0.001 to 0.0001"


def test_a_checkpoint_of_version_0_1_tells_its_global_batch_and_length(tmp_path: Path) -> None:
    assert schedule.of_checkpoint(tmp_path, RankState(0.0, 0)) is None
    (tmp_path / "trainer_state.json").write_text('{"max_steps": 20}')
    Manifest(step=5, samples_seen=40, files=entries(tmp_path)).write(tmp_path)
    assert schedule.of_checkpoint(tmp_path, RankState(0.0, 0)) == begin(of(8), 20)
    later = RankState(0.0, 0, schedule=PLAIN)
    assert schedule.of_checkpoint(tmp_path, later) is PLAIN
