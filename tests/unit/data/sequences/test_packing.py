"""Plans by every packing: each token of the documents in exactly one place."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainyard.data.sequences import packing as packings
from trainyard.data.sequences.packing import PACKINGS, Plan, best_fit, concat, padded

Spans = list[tuple[int, int]]


def pack(packing: str, lengths: list[int], block_size: int, **options: Any) -> Plan:
    """A plan of documents that lie one after another in the store."""
    sizes = np.array(lengths, dtype=np.int64)
    return PACKINGS[packing](np.cumsum(sizes) - sizes, sizes, block_size, **{"keep_tail": True, **options})


def sequences(plan: Plan) -> list[Spans]:
    return [plan.spans(index) for index in range(len(plan))]


def test_concat_cuts_one_stream() -> None:
    plan = pack("concat", [3, 4, 5], 4, keep_tail=False)
    assert sequences(plan) == [[(0, 3), (3, 4)], [(4, 7), (7, 8)], [(8, 12)]]
    assert plan.tail == 0
    plan = pack("concat", [3, 0, 2], 4, keep_tail=False)
    assert sequences(plan) == [[(0, 3), (3, 4)]]
    assert (plan.tail, plan.num_tokens, plan.fill) == (1, 4, 1.0)
    assert sequences(pack("concat", [3, 0, 2], 4, keep_tail=True)) == [[(0, 3), (3, 4)], [(4, 5)]]


def test_best_fit_puts_each_span_where_the_least_room_is_left() -> None:
    assert sequences(pack("best_fit", [2, 5, 2, 3], 7)) == [[(2, 7), (0, 2)], [(9, 12), (7, 9)]]


def test_best_fit_cuts_only_what_does_not_fit() -> None:
    assert sequences(pack("best_fit", [9, 3], 4)) == [[(0, 4)], [(4, 8)], [(9, 12), (8, 9)]]


def test_padded_gives_a_document_a_sequence() -> None:
    assert sequences(pack("padded", [2, 0, 9], 4)) == [[(0, 2)], [(2, 6)], [(6, 10)], [(10, 11)]]


def test_the_head_of_a_plan_is_its_first_sequences() -> None:
    plan = pack("best_fit", [3, 3, 2, 4, 1], 4)
    assert len(plan) > 2
    head = plan.head(2)
    assert sequences(head) == sequences(plan)[:2]
    assert head.num_tokens == sum(stop - start for spans in sequences(head) for start, stop in spans)
    assert head.tokens_per_sequence == head.num_tokens / 2
    assert sequences(plan.head(99)) == sequences(plan) and plan.head(99).num_tokens == plan.num_tokens


@pytest.fixture(autouse=True)
def few_blocks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small plans are made in several goes too."""
    monkeypatch.setattr(packings, "_BLOCKS_AT_ONCE", 3)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    packing=st.sampled_from(sorted(PACKINGS)),
    lengths=st.lists(st.integers(0, 9), max_size=14),
    chosen=st.data(),
    block=st.integers(2, 7),
    keep_tail=st.booleans(),
)
def test_every_token_of_the_chosen_documents_is_in_one_place(
    packing: str, lengths: list[int], chosen: st.DataObject, block: int, keep_tail: bool
) -> None:
    """Any documents, in any order; a document may be there twice, as in a mixture."""
    sizes = np.array(lengths, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    picked = np.array(chosen.draw(st.lists(st.integers(0, len(lengths) - 1))) if lengths else [], dtype=np.int64)
    plan = PACKINGS[packing](starts[picked], sizes[picked], block, keep_tail=keep_tail)
    made = sequences(plan)
    assert all(0 < sum(stop - start for start, stop in spans) <= block for spans in made)
    seen = [token for spans in made for start, stop in spans for token in range(start, stop)]
    wanted = [int(starts[number]) + place for number in picked for place in range(lengths[number])]
    kept = wanted[: len(wanted) - plan.tail]
    assert (seen == kept) if packing == "concat" else (Counter(seen) == Counter(kept))
    assert plan.num_tokens == len(seen)
    assert plan.tail < block
    assert plan.tail == 0 or (packing == "concat" and not keep_tail)
    if packing != "concat":  # a document that fits is one span
        whole = {(int(starts[n]), int(starts[n]) + lengths[n]) for n in picked if 0 < lengths[n] <= block}
        assert whole <= {span for spans in made for span in spans}
    with pytest.raises(IndexError):
        plan.spans(len(plan))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), block=st.integers(5, 30))
def test_best_fit_is_what_placing_one_by_one_gives(lengths: list[int], block: int) -> None:
    pieces = [min(block, length - done) for length in lengths for done in range(0, length, block)]
    rooms: list[int] = []
    for piece in sorted(pieces, reverse=True):
        fitting = [number for number, room in enumerate(rooms) if room >= piece]
        if fitting:
            rooms[min(fitting, key=lambda number: rooms[number])] -= piece
        else:
            rooms.append(block - piece)
    made = sequences(pack("best_fit", lengths, block))
    assert sorted(block - sum(b - a for a, b in spans) for spans in made) == sorted(rooms)


def test_packing_real_sized_documents_leaves_hardly_a_gap() -> None:
    lengths = np.random.default_rng(0).lognormal(6, 1.2, 50_000).astype(np.int64) + 1
    plan = best_fit(np.cumsum(lengths) - lengths, lengths, 2048)
    assert plan.fill > 0.999
    assert padded(np.cumsum(lengths) - lengths, lengths, 2048).fill < 0.5


def test_a_saved_plan_is_mapped_not_read(tmp_path: Path) -> None:
    plan = concat(np.array([0, 3]), np.array([3, 4]), 4, keep_tail=False)
    loaded = Plan.load(tmp_path, "train", plan.save(tmp_path, "train"))
    assert sequences(loaded) == sequences(plan)
    assert (loaded.tail, loaded.fill) == (plan.tail, plan.fill) == (3, 1.0)
    assert isinstance(loaded.starts, np.memmap)
