import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.data.loader import MicroBatches, Split
from trainyard.data.order import permute, sample_indices


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 3000), key=st.integers(0, 2**70))
def test_permute_is_a_permutation(n: int, key: int) -> None:
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


def test_it_shuffles_and_depends_on_seed_and_epoch() -> None:
    first = permute(np.arange(1000), 1000, key=1)
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    assert (first != permute(np.arange(1000), 1000, key=2)).mean() > 0.9
    epochs = sample_indices(np.arange(2000), 1000, seed=3)
    assert sorted(epochs[:1000]) == sorted(epochs[1000:]) == list(range(1000))
    assert (epochs[:1000] != epochs[1000:]).mean() > 0.9


def test_far_positions_need_no_more_than_near_ones() -> None:
    n = 10**11
    far = sample_indices(np.array([n - 1, n, 7 * n]), n, seed=0)
    assert ((far >= 0) & (far < n)).all()


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(1, 50), world=st.sampled_from([1, 2, 4]), micro=st.sampled_from([1, 2]), start=st.integers(0, 5)
)
def test_every_split_trains_on_the_same_samples_in_every_step(samples: int, world: int, micro: int, start: int) -> None:
    def steps(split: Split) -> list[list[int]]:
        """The samples of all ranks, step by step, sorted."""
        per_step: list[list[int]] = [[] for _ in range(start, 6)]
        for rank in range(split.world_size):
            own = Split(rank, split.world_size, split.micro_batch, split.accumulation)
            batches = list(MicroBatches(samples, own, seed=9, start_step=start, max_steps=6))
            assert len(batches) == (6 - start) * split.accumulation
            for number, batch in enumerate(batches):
                per_step[number // own.accumulation].extend(batch)
        return [sorted(step) for step in per_step]

    reference = sample_indices(np.arange(8 * start, 48), samples, seed=9).reshape(-1, 8)
    assert steps(Split(0, world, micro, 8 // world // micro)) == [sorted(row) for row in reference.tolist()]
