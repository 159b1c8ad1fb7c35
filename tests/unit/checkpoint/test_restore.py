"""Random states and settings after a resume; whole loads are in tests/faults/test_world_size.py."""

import random
from pathlib import Path

import numpy as np
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from trainyard.checkpoint import restore
from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.data.batches.loader import BatchLayout


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def checkpoint_of(place: Path, ranks: int) -> Path:
    """A checkpoint at step 5 with a random state for each rank, as the Trainer names them."""
    place.mkdir()
    for rank in range(ranks):
        random.seed(rank)
        np.random.seed(rank)
        torch.manual_seed(rank)
        states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
        torch.save(states, place / ("rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth"))
    Manifest(step=5, world_size=ranks, files=entries(place)).write(place)
    return place


def restored(found: Path, rank: int, seed: int = 42, step: int = 5) -> tuple[float, float, float]:
    batch_layout = BatchLayout(rank=rank, world_size=9, micro_batch=1, accumulation=1)
    restore.restore_randomness(found, batch_layout, seed=seed, step=step)
    return draw()


def test_ranks_keep_their_random_state_and_new_ones_get_their_own(tmp_path: Path) -> None:
    found = {ranks: checkpoint_of(tmp_path / f"of-{ranks}", ranks) for ranks in (1, 2)}
    for rank in (0, 1):
        random.seed(rank)
        np.random.seed(rank)
        torch.manual_seed(rank)
        expected = draw()
        assert restored(found[2], rank) == expected
        assert (restored(found[1], rank) == expected) is (rank == 0)
    new = [
        restored(found[2], 2),
        restored(found[2], 3),
        restored(found[2], 2, seed=43),
        restored(found[2], 2, step=6),
        restored(found[1], 1),
    ]
    assert len({number for numbers in new for number in numbers}) == 15
    assert restored(found[2], 2) == new[0]


def schedule_at(step: int, rate: float, decay: float) -> tuple[AdamW, LambdaLR]:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": wanted} for wanted in (decay, 0.0)]
    optimizer = AdamW(groups, lr=rate)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 3))
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


def test_settings_are_the_commands_and_the_place_in_the_schedule_the_checkpoints() -> None:
    saved = [part.state_dict() for part in schedule_at(7, rate=0.3, decay=0.1)]
    for rate, decay in ((0.3, 0.1), (0.7, 0.0)):
        resumed = schedule_at(0, rate, decay)
        settings = restore.settings_of(resumed[0])
        for part, state in zip(resumed, saved, strict=True):
            part.load_state_dict(state)
        restore.apply_settings(*resumed, settings)
        undisturbed = schedule_at(7, rate, decay)
        for _ in range(3):
            assert resumed[0].param_groups[0]["lr"] == undisturbed[0].param_groups[0]["lr"]  # to the last bit
            assert resumed[1].get_last_lr() == undisturbed[1].get_last_lr()
            assert [group["weight_decay"] for group in resumed[0].param_groups] == [decay, 0.0]
            for optimizer, scheduler in (resumed, undisturbed):
                optimizer.step()
                scheduler.step()
