"""Checkpoints that these ranks can load as they are, and those that need more; whole loads are in tests/faults."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainyard.checkpoint.layout import Layout
from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError
from trainyard.rundir.directory import RunDir
from trainyard.rundir.rank import Rank
from trainyard.training import restoring
from trainyard.training.restoring import Restorer

ZERO = Layout(stage=2, zero_optimization={"stage": 2})


def restorer(tmp_path: Path, layout: Layout, world_size: int = 2) -> Restorer:
    rank = Rank(0, world_size, RunDir(tmp_path), tmp_path / "checkpoints" / "checkpoint-5")
    batch_layout = BatchLayout(rank=0, world_size=world_size, micro_batch=1, accumulation=1)
    saver: Any = SimpleNamespace(layout=layout, directory=tmp_path / "checkpoints")
    return Restorer(rank, batch_layout, saver)


def checkpoint(tmp_path: Path, layout: Layout, world_size: int = 2) -> Path:
    place = tmp_path / "checkpoints" / "checkpoint-5"
    place.mkdir(parents=True)
    torch.save({"moment": torch.ones(2)}, place / "x_optim_states.pt")
    Manifest(step=5, world_size=world_size, layout=layout, files=entries(place)).write(place)
    return place


@pytest.mark.parametrize(("layout", "wrote"), [(ZERO, 2), (Layout(), 2), (Layout(), 3)])
def test_a_best_checkpoint_that_fits_is_loaded_from_its_place(
    tmp_path: Path, one_rank: None, layout: Layout, wrote: int
) -> None:
    best = checkpoint(tmp_path, layout, wrote)
    with restorer(tmp_path, layout).loadable(best, None) as place:
        assert place == best


def test_a_best_checkpoint_of_other_ranks_is_converted(
    tmp_path: Path, one_rank: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, made = checkpoint(tmp_path, ZERO, 3), []
    monkeypatch.setattr(restoring, "convert", lambda source, target, fp16: made.append((source, target, fp16)))
    engine = SimpleNamespace(_config=SimpleNamespace(load_universal_checkpoint=False))
    with restorer(tmp_path, ZERO).loadable(best, engine) as place:
        assert made == [(best, place, False)] and place != best and place.name == best.name
        assert engine._config.load_universal_checkpoint
    assert not engine._config.load_universal_checkpoint


@pytest.mark.parametrize("wrote", [2, 3])
def test_a_damaged_best_checkpoint_is_neither_loaded_nor_converted(tmp_path: Path, one_rank: None, wrote: int) -> None:
    best = checkpoint(tmp_path, ZERO, wrote)
    (best / "x_optim_states.pt").write_bytes(b"others")
    with (
        pytest.raises(FinalError, match=r"the best checkpoint cannot be loaded, .*; the last one is untouched"),
        restorer(tmp_path, ZERO).loadable(best, None),
    ):
        pytest.fail("it is damaged")


def test_the_random_state_of_as_many_ranks_is_left_to_the_trainer(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, ZERO, 2)
    state = torch.get_rng_state()
    assert not restorer(tmp_path, ZERO, 2).restore_randomness(found, seed=1)
    assert torch.get_rng_state().equal(state)
    assert restorer(tmp_path, ZERO, 3).restore_randomness(found, seed=1)
    assert not torch.get_rng_state().equal(state)


def test_the_settings_of_the_command_replace_those_of_the_checkpoint(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, ZERO)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    ready = restorer(tmp_path, ZERO)
    ready.remember_settings(optimizer)
    optimizer.param_groups[0].update(weight_decay=0.9, initial_lr=7.0)  # as loading does
    scheduler.last_epoch = 3
    assert ready.finish(found, None, optimizer, scheduler, engine=None) == (0.5, 0.5 / 4)
    assert ready.finish(found, None, optimizer, scheduler, engine=None) is None, "nothing changes any more"
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert optimizer.param_groups[0]["lr"] == 0.5 / 4
