"""Sequences of a plan as samples."""

from pathlib import Path

import numpy as np

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.sequences.packing import concat
from unit.stores import make_store


def test_a_sequence_holds_the_tokens_of_its_spans(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3, 3]])
    dataset = TokenDataset(store, concat(np.array([0, 3, 7]), np.array([3, 4, 5]), 4, keep_tail=True))
    assert [item["input_ids"].tolist() for item in dataset] == [[1, 1, 1, 2], [2, 2, 2, 3], [3, 3, 3, 3]]
    assert [item["segments"].tolist() for item in dataset] == [[3, 1], [3, 1], [4]]


def test_the_loss_mask_of_a_sequence_and_the_documents_in_it(tmp_path: Path) -> None:
    store = make_store(tmp_path, [[1, 1, 1], [2, 2, 2, 2]], masks=[[0, 1, 1], [0, 0, 1, 1]], cuts=[[0], [0]])
    dataset = TokenDataset(store, concat(np.array([0, 3]), np.array([3, 4]), 4, keep_tail=True))
    masks = [item["loss_mask"] for item in dataset]
    assert [mask.tolist() for mask in masks if mask is not None] == [[False, True, True, False], [False, True, True]]
    assert [dataset.documents([index]) for index in range(2)] == [[0, 1], [1]]
