"""Batches go on from any position: from a step, and from the state of torchdata's loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard.data.batches import loader as loaders
from trainyard.data.batches.collator import Collator
from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout, eval_loader, train_loader
from trainyard.data.sequences.packing import Plan, concat
from unit.stores import make_store

SPLIT = BatchLayout(rank=1, world_size=2, micro_batch=3, accumulation=2)


@pytest.fixture
def dataset(tmp_path: Path) -> TokenDataset:
    store = make_store(tmp_path, [list(range(50)), list(range(50, 100))])
    return TokenDataset(store, concat(np.array([0, 50]), np.array([50, 50]), 4, keep_tail=False))


def batches(dataset: TokenDataset, start_step: int = 0, **options: Any) -> Any:
    return train_loader(dataset, Collator(4), SPLIT, seed=5, start_step=start_step, max_steps=9, **options).loader


def rows(loader: Any) -> list[Any]:
    return [batch["input_ids"].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_from_a_step_on_it_is_the_same_stream(dataset: TokenDataset, workers: int) -> None:
    whole = rows(batches(dataset, num_workers=workers))
    assert len(whole) == 9 * 2
    assert rows(batches(dataset, start_step=4, num_workers=workers)) == whole[4 * 2 :]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 5, 17])
def test_the_state_of_the_loader_goes_on_where_it_was_taken(dataset: TokenDataset, workers: int, done: int) -> None:
    whole = rows(batches(dataset, num_workers=workers))
    first = batches(dataset, num_workers=workers)
    iterator = iter(first)
    seen = [next(iterator)["input_ids"].tolist() for _ in range(done)]
    state = first.state_dict()
    del iterator
    again = batches(dataset, num_workers=workers)
    again.load_state_dict(state)
    assert seen + rows(again) == whole


class Counted(TokenDataset):
    """A hundred million sequences of one token; how many were read is counted."""

    def __init__(self, dataset: TokenDataset):
        n = 100_000_000
        many = {"first": np.broadcast_to(np.int64(0), n + 1), "starts": np.zeros(1, np.int64)}
        super().__init__(dataset.store, Plan(4, **many, lengths=np.ones(1, np.int32), num_tokens=n))
        self.read = 0

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return {"input_ids": np.array([index % 97]), "segments": np.array([1]), "loss_mask": np.array([True])}


def test_the_far_end_costs_what_the_beginning_costs(dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """In work done, not in seconds: one micro batch is computed and read, wherever it lies."""
    computed: list[int] = []
    inner = loaders.sample_indices

    def counted(positions: Any, n: int, seed: int) -> Any:
        computed.append(len(positions))
        return inner(positions, n, seed)

    monkeypatch.setattr(loaders, "sample_indices", counted)
    many = Counted(dataset)
    last = len(many) // SPLIT.global_batch
    near = train_loader(many, Collator(4), SPLIT, seed=5, start_step=0, max_steps=last).loader
    state = {}
    for start, loader in ((0, near), (last - 1, None)):
        loader = loader or train_loader(many, Collator(4), SPLIT, seed=5, start_step=start, max_steps=last).loader
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
        assert (computed, many.read) == ([3], 3)
        computed.clear()
        many.read = 0
    near.load_state_dict(state)  # to the end, by state
    next(iter(near))
    assert (computed, many.read) == ([3], 3)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_reads_every_sequence_once_over_all_ranks(dataset: TokenDataset, world: int) -> None:
    shares = [
        rows(eval_loader(dataset, Collator(4), rank=rank, world_size=world, batch_size=4)) for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    seen = sorted(row for share in shares for batch in share for row in batch)
    assert seen == [list(range(first, first + 4)) for first in range(0, 100, 4)]
