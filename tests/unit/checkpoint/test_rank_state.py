"""The state of each rank: what comes back is what was written, and other numbers of ranks share it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.checkpoint.rank_state import (
    BadStepsState,
    BestState,
    RankState,
    ScheduleState,
    SpikesState,
    read_rank_state,
)
from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError

STATE = RankState(
    loss=1.5,
    last_logged=10,
    evaluation_due=True,
    bad_steps=BadStepsState(2, ["step 9: the loss is nan"], save_due=True, evaluation_due=False),
    spikes=SpikesState([1.0, 2.0], [9.0]),
    best=BestState(8, 2.5),
    tokens_seen=4096,
    schedule=ScheduleState(8, 20, 20),
    skipped=[[8, 16]],
)


def of_rank(rank: int, world_size: int) -> BatchLayout:
    return BatchLayout(rank=rank, world_size=world_size, micro_batch=1, accumulation=1)


def test_every_rank_gets_its_own_state_back(tmp_path: Path) -> None:
    states = [STATE, replace(STATE, loss=2.5, evaluation_due=False)]
    for rank, state in enumerate(states):
        state.write(tmp_path, rank)
    assert [read_rank_state(tmp_path, of_rank(rank, 2)) for rank in (0, 1)] == states


@pytest.mark.parametrize("world_size", [1, 3])
def test_another_number_of_ranks_shares_the_mean_loss(tmp_path: Path, world_size: int) -> None:
    for rank, loss in enumerate((1.5, 2.5)):
        replace(STATE, loss=loss).write(tmp_path, rank)
    states = [read_rank_state(tmp_path, of_rank(rank, world_size)) for rank in range(world_size)]
    assert states == [replace(STATE, loss=2.0)] * world_size


def test_no_state_is_no_error(tmp_path: Path) -> None:
    assert read_rank_state(tmp_path, of_rank(0, 1)) is None


def test_the_file_has_the_keys_of_version_0_1(tmp_path: Path) -> None:
    STATE.write(tmp_path, 3)
    assert json.loads((tmp_path / "trainer_window_3.json").read_text()) == {
        "loss": 1.5,
        "last_logged": 10,
        "evaluation_due": True,
        "bad_steps": {
            "total": 2,
            "streak": ["step 9: the loss is nan"],
            "save_due": True,
            "evaluation_due": False,
        },
        "spikes": {"losses": [1.0, 2.0], "outside": [9.0]},
        "skipped": [[8, 16]],
        # and those of later versions
        "best": {"step": 8, "value": 2.5},
        "tokens_seen": 4096,
        "schedule": {"global_batch": 8, "max_steps": 20, "total": 20, "first_step": 0, "first_place": 0},
    }


def test_a_file_without_the_later_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "trainer_window_0.json").write_text('{"loss": 0.5, "last_logged": 4, "evaluation_due": false}')
    assert read_rank_state(tmp_path, of_rank(0, 1)) == RankState(0.5, 4)


def test_keys_of_another_version_are_passed_over(tmp_path: Path) -> None:
    of_another = {"loss": 0.5, "last_logged": 4, "mood": "good", "spikes": {"losses": [1.0], "mood": "bad"}}
    of_another["bad_steps"] = {"total": 1, "mood": "bad"}
    (tmp_path / "trainer_window_0.json").write_text(json.dumps(of_another))
    expected = RankState(0.5, 4, bad_steps=BadStepsState(1), spikes=SpikesState([1.0]))
    assert read_rank_state(tmp_path, of_rank(0, 1)) == expected


@pytest.mark.parametrize("facts", [{}, {"loss": 1.0}, {"loss": 1.0, "last_logged": 1, "bad_steps": 3}])
def test_a_state_that_lacks_a_key_is_named_with_the_way_on(tmp_path: Path, facts: dict[str, object]) -> None:
    file = tmp_path / "trainer_window_0.json"
    file.write_text(json.dumps(facts))
    with pytest.raises(FinalError, match=f"^{file}: damaged, or of another version of trainyard: .* Resume from an"):
        read_rank_state(tmp_path, BatchLayout(rank=0, world_size=1, micro_batch=1, accumulation=1))
