import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.data.batches.loader import BatchLayout, MicroBatches, micro_batch_positions, step_positions
from trainyard.data.sequences.order import Stretches, merged, permute, sample_indices, without

STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=5).map(
    lambda drawn: merged((first, first + length) for first, length in drawn if length)
)


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
    samples=st.integers(1, 50),
    world=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([1, 2]),
    start=st.integers(0, 5),
    skipped=STRETCHES,
)
def test_every_split_trains_on_the_same_samples_in_every_step(
    samples: int, world: int, micro: int, start: int, skipped: Stretches
) -> None:
    def steps(split: BatchLayout) -> list[list[int]]:
        """The samples of all ranks, step by step, sorted."""
        per_step: list[list[int]] = [[] for _ in range(start, 6)]
        for rank in range(split.world_size):
            own = BatchLayout(rank, split.world_size, split.micro_batch, split.accumulation)
            batches = list(MicroBatches(samples, own, seed=9, start_step=start, max_steps=6, skipped=skipped))
            assert len(batches) == (6 - start) * split.accumulation
            for number, batch in enumerate(batches):
                per_step[number // own.accumulation].extend(batch)
        return [sorted(step) for step in per_step]

    left_out = {position for first, stop in skipped for position in range(first, stop)}
    remaining = np.array([position for position in range(200) if position not in left_out])
    reference = sample_indices(remaining[8 * start : 48], samples, seed=9).reshape(-1, 8)
    assert steps(BatchLayout(0, world, micro, 8 // world // micro)) == [sorted(row) for row in reference.tolist()]


def test_what_is_taken_out_never_comes_and_all_else_keeps_its_order() -> None:
    places = np.arange(12)
    assert without(places, []).tolist() == places.tolist()
    assert without(places, [(4, 6), (8, 9)]).tolist() == [0, 1, 2, 3, 6, 7, 9, 10, 11, 12, 13, 14]
    assert without(np.array([10**15]), [(4, 6)]).tolist() == [10**15 + 2]


def test_stretches_that_meet_are_one() -> None:
    assert merged([(6, 8), (4, 6), (1, 2)]) == [(1, 2), (4, 8)]
    assert merged([(1, 9), (3, 4), (9, 9)]) == [(1, 9)]
    assert merged([]) == []


@settings(max_examples=100, deadline=None)
@given(skipped=STRETCHES, step=st.integers(0, 9), back=st.integers(1, 5), reach=st.integers(0, 5))
def test_a_stretch_of_steps_taken_out_later_changes_nothing_before_it(
    skipped: Stretches, step: int, back: int, reach: int
) -> None:
    """As after a second rollback: steps of a run that leaves something out already."""
    split = BatchLayout(0, 2, 2, 2)
    taken = np.concatenate([step_positions(split, number, skipped) for number in range(step, step + reach + 1)])
    more = merged([*skipped, (int(taken[0]), int(taken[-1]) + 1)])
    for earlier in range(max(0, step - back), step):
        assert (step_positions(split, earlier, more) == step_positions(split, earlier, skipped)).all()
    following = [step_positions(split, number, skipped) for number in (step + reach + 1, step + reach + 2)]
    assert [step_positions(split, number, more).tolist() for number in (step, step + 1)] == [
        each.tolist() for each in following
    ]


def test_the_micro_batches_of_a_step_make_it_up() -> None:
    split, skipped = BatchLayout(1, 2, 3, 2), [(15, 17)]
    assert step_positions(split, 1, skipped).tolist() == [12, 13, 14, *range(17, 26)]
    assert micro_batch_positions(split, 1, 0, 0, skipped).tolist() == [12, 13, 14]
    assert micro_batch_positions(split, 1, 0, 1, skipped).tolist() == [17, 18, 19]
    assert micro_batch_positions(split, 1, 1, 1, skipped).tolist() == [23, 24, 25]
