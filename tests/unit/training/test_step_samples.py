"""Which samples a step trains on, and their names."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout
from trainyard.data.sequences.packing import concat
from trainyard.training.step_samples import StepSamples
from unit.data.test_store import make_store

LAYOUT = BatchLayout(rank=0, world_size=2, micro_batch=2, accumulation=2)


def samples(tmp_path: Path, skipped: list[tuple[int, int]]) -> StepSamples:
    """Twenty documents of four tokens, each a sequence of its own."""
    store = make_store(tmp_path, [list(range(4)) for _ in range(20)])
    starts, lengths = np.arange(0, 80, 4), np.full(20, 4)
    return StepSamples(TokenDataset(store, concat(starts, lengths, 4, keep_tail=False)), LAYOUT, 0, skipped)


def test_a_step_is_made_of_the_micro_batches_of_all_ranks(tmp_path: Path) -> None:
    found = samples(tmp_path, [])
    assert found.of_step(1).tolist() == list(range(8, 16))
    parts = {(a, rank): found.of_micro_batch(1, a, rank).tolist() for a in range(2) for rank in range(2)}
    assert parts == {(0, 0): [8, 9], (0, 1): [10, 11], (1, 0): [12, 13], (1, 1): [14, 15]}
    assert found.tokens_per_step == 32


def test_a_stretch_that_is_left_out_moves_the_later_steps(tmp_path: Path) -> None:
    assert samples(tmp_path, [(2, 5)]).of_step(0).tolist() == [0, 1, 5, 6, 7, 8, 9, 10]


def test_after_a_change_of_the_global_batch_the_samples_go_on_where_they_were(tmp_path: Path) -> None:
    found = samples(tmp_path, [])
    changed = replace(found, batch_layout=replace(LAYOUT, first_step=3, first_sample=12))  # three steps of four
    assert changed.of_step(3).tolist() == list(range(12, 20)) and changed.of_step(4).tolist() == list(range(20, 28))
    assert changed.of_micro_batch(3, 1, 1).tolist() == [18, 19]
    assert [changed.tokens_seen(step) for step in (3, 4)] == [12 * 4, 20 * 4]
    assert replace(changed, tokens_before=7).tokens_seen(4) == 7 + 32  # those of another block size
    assert [changed.epochs(step) for step in (3, 4)] == [12 / 20, 1.0]
    assert [found.tokens_seen(step) for step in (0, 3)] == [0, 96] and found.epochs(5) == 2.0


def test_so_many_documents_are_named(tmp_path: Path) -> None:
    named = samples(tmp_path, []).named(np.arange(10))
    assert named.startswith("samples 0 to 9 (documents ") and named.endswith(" and 2 more)")
    assert len(named.partition("documents ")[2].split(", ")) == 8
