from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import make_store

from trainyard.data.dataset import IGNORE, TokenDataset, collate
from trainyard.data.plan import ConcatPlan, split_documents


def test_the_example_of_the_docstring(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3, 3]])
    plan = ConcatPlan.make(store, np.arange(3), 4, keep_tail=False)
    assert [plan.pieces(index) for index in range(len(plan))] == [[(0, 3), (3, 4)], [(4, 7), (7, 8)], [(8, 12)]]
    assert plan.tail == 0
    dataset = TokenDataset(store, plan)
    assert [item["input_ids"].tolist() for item in dataset] == [[1, 1, 1, 2], [2, 2, 2, 3], [3, 3, 3, 3]]
    assert [item["segments"].tolist() for item in dataset] == [[3, 1], [3, 1], [4]]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    chosen=st.data(),
    block=st.integers(2, 7),
    keep_tail=st.booleans(),
)
def test_every_token_of_the_chosen_documents_is_in_one_place(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], chosen: st.DataObject, block: int, keep_tail: bool
) -> None:
    ids = iter(range(10_000))
    documents = [[next(ids) for _ in range(length)] for length in lengths]
    store = make_store(tmp_path_factory.mktemp("store"), documents, vocab_size=10_000)
    picked = sorted(chosen.draw(st.sets(st.integers(0, len(lengths) - 1))))
    plan = ConcatPlan.make(store, np.array(picked, dtype=np.int64), block, keep_tail=keep_tail)
    dataset = TokenDataset(store, plan)
    seen = [token for item in (dataset[index] for index in range(len(dataset))) for token in item["input_ids"].tolist()]
    wanted = [token for number in picked for token in documents[number]]
    assert seen == wanted[: len(wanted) - plan.tail]
    assert plan.tail < block
    assert plan.tail == 0 or not keep_tail
    with pytest.raises(IndexError):
        plan.pieces(len(plan))


def test_the_held_out_share_depends_on_the_text_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[1]] * 4)
    store.hashes = np.array([2**63, 5, 2**64 - 1, 2**62], dtype=np.uint64)
    assert [part.tolist() for part in split_documents(store, 0.5)] == [[0, 2], [1, 3]]
    assert [part.tolist() for part in split_documents(store, 0.0)] == [[0, 1, 2, 3], []]
    assert [part.tolist() for part in split_documents(store, 1e-30)] == [[0, 2, 3], [1]]  # never none


def test_a_short_sequence_is_filled_up_and_not_learned() -> None:
    sample = {"input_ids": np.array([7, 8]), "segments": np.array([2])}
    batch = collate([sample], block_size=4)  # type: ignore[list-item]
    assert batch["input_ids"].tolist() == [[7, 8, 0, 0]]
    assert batch["labels"].tolist() == [[7, 8, IGNORE, IGNORE]]
    assert collate([], block_size=4)["input_ids"].shape == (0, 4)
