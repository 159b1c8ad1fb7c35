"""Batches continue from any position: from a step, and from the state of torchdata's loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.data.batches import loader as loaders
from trainyard.data.batches.collator import Collator
from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import (
    BatchLayout,
    MicroBatches,
    eval_loader,
    micro_batch_positions,
    step_positions,
    train_loader,
)
from trainyard.data.sequences.order import Stretches, merged, sample_indices
from trainyard.data.sequences.packing import Plan, concat
from unit.stores import make_store

LAYOUT = BatchLayout(rank=1, world_size=2, micro_batch=3, accumulation=2)


STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=5).map(
    lambda drawn: merged((first, first + length) for first, length in drawn if length)
)


@pytest.fixture
def dataset(tmp_path: Path) -> TokenDataset:
    store = make_store(tmp_path, [list(range(50)), list(range(50, 100))])
    return TokenDataset(store, concat(np.array([0, 50]), np.array([50, 50]), 4, keep_tail=False))


def batches(dataset: TokenDataset, start_step: int = 0, **options: Any) -> Any:
    return train_loader(dataset, Collator(4), LAYOUT, seed=5, start_step=start_step, max_steps=9, **options).loader


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
    last = len(many) // LAYOUT.global_batch
    near = train_loader(many, Collator(4), LAYOUT, seed=5, start_step=0, max_steps=last).loader
    state = {}
    for start, loader in ((0, near), (last - 1, None)):
        loader = loader or train_loader(many, Collator(4), LAYOUT, seed=5, start_step=start, max_steps=last).loader
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


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(1, 50),
    world=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([1, 2]),
    start=st.integers(0, 5),
    skipped=STRETCHES,
)
def test_every_layout_trains_on_the_same_samples_in_every_step(
    samples: int, world: int, micro: int, start: int, skipped: Stretches
) -> None:
    def steps(batch_layout: BatchLayout) -> list[list[int]]:
        """The samples of all ranks, step by step, sorted."""
        per_step: list[list[int]] = [[] for _ in range(start, 6)]
        for rank in range(batch_layout.world_size):
            own = BatchLayout(rank, batch_layout.world_size, batch_layout.micro_batch, batch_layout.accumulation)
            batches = list(MicroBatches(samples, own, seed=9, start_step=start, max_steps=6, skipped=skipped))
            assert len(batches) == (6 - start) * batch_layout.accumulation
            for number, batch in enumerate(batches):
                per_step[number // own.accumulation].extend(batch)
        return [sorted(step) for step in per_step]

    left_out = {position for first, stop in skipped for position in range(first, stop)}
    remaining = np.array([position for position in range(200) if position not in left_out])
    reference = sample_indices(remaining[8 * start : 48], samples, seed=9).reshape(-1, 8)
    assert steps(BatchLayout(0, world, micro, 8 // world // micro)) == [sorted(row) for row in reference.tolist()]


@settings(max_examples=100, deadline=None)
@given(skipped=STRETCHES, step=st.integers(0, 9), back=st.integers(1, 5), reach=st.integers(0, 5))
def test_a_stretch_of_steps_taken_out_later_changes_nothing_before_it(
    skipped: Stretches, step: int, back: int, reach: int
) -> None:
    """As after a second rollback: steps of a run that leaves out other steps already."""
    batch_layout = BatchLayout(0, 2, 2, 2)
    taken = np.concatenate([step_positions(batch_layout, number, skipped) for number in range(step, step + reach + 1)])
    more = merged([*skipped, (int(taken[0]), int(taken[-1]) + 1)])
    for earlier in range(max(0, step - back), step):
        assert (step_positions(batch_layout, earlier, more) == step_positions(batch_layout, earlier, skipped)).all()
    following = [step_positions(batch_layout, number, skipped) for number in (step + reach + 1, step + reach + 2)]
    assert [step_positions(batch_layout, number, more).tolist() for number in (step, step + 1)] == [
        each.tolist() for each in following
    ]


def test_the_micro_batches_of_a_step_make_it_up() -> None:
    batch_layout, skipped = BatchLayout(1, 2, 3, 2), [(15, 17)]
    assert step_positions(batch_layout, 1, skipped).tolist() == [12, 13, 14, *range(17, 26)]
    assert micro_batch_positions(batch_layout, 1, 0, 0, skipped).tolist() == [12, 13, 14]
    assert micro_batch_positions(batch_layout, 1, 0, 1, skipped).tolist() == [17, 18, 19]
    assert micro_batch_positions(batch_layout, 1, 1, 1, skipped).tolist() == [23, 24, 25]
