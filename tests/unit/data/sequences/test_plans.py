"""The plans of a run on disk: their keys are those of 0.1."""

import json
from pathlib import Path

import numpy as np
import pytest

from trainyard.config.schema import DataConfig
from trainyard.data.sequences import plans
from trainyard.data.sequences.plans import load
from trainyard.errors import DataError
from unit.stores import make_store


def test_a_saved_plan_of_conversations_is_loaded_again(tmp_path: Path) -> None:
    """Conversations of 4 and 11 tokens in blocks of 9: the second loses its last exchange."""
    documents = [[1, 2, 3, 4], list(range(20, 31))]
    masks = [[0, 0, 1, 1], [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]]
    store = make_store(tmp_path, documents, masks=masks, cuts=[[0], [2, 5, 8]])
    data = DataConfig(sources=[], block_size=9, packing="padded", truncation="back", eval_fraction=0.0)
    made = plans.make(store, data, seed=0)
    assert [made.train.spans(index) for index in range(2)] == [[(0, 4)], [(4, 12)]]
    target = plans.directory_of(store.directory, data, seed=0)
    plans.save(made, target)
    described = json.loads((target / "plans.json").read_text())
    assert described["train"] == {"block_size": 9, "num_tokens": 12, "tail": 0, "cut": 1, "dropped": 0, "documents": 2}
    loaded = plans.open_plans(store, data, seed=0)
    assert (loaded.train.shortened, loaded.train.dropped, len(loaded.held_out)) == (1, 0, 0)
    assert isinstance(loaded.train.starts, np.memmap)
    assert [loaded.train.spans(index) for index in range(2)] == [[(0, 4)], [(4, 12)]]


def test_damaged_plans_are_named_with_the_way_on(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", '{"train": 3}'):
        (tmp_path / "plans.json").write_text(content)
        with pytest.raises(DataError, match=f"plans.json: damaged or missing .*Delete {tmp_path}; the same command"):
            load(tmp_path)
