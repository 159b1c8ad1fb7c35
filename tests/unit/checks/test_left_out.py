"""Conversations that are too long are counted, warned of and refused."""

import json
from pathlib import Path

import pytest

from trainyard.checks import left_out
from trainyard.config.schema import Config, DataConfig, ModelConfig
from unit.stores import make_store


def config_of(tmp_path: Path, long: int, context: int = 4096, **data: object) -> Config:
    """A hundred conversations of 10 tokens, of which `long` have 100 and one exchange."""
    documents = [[1] * (100 if number < long else 10) for number in range(100)]
    masks = [[0, *[1] * (len(ids) - 1)] for ids in documents]
    make_store(tmp_path / "store", documents, masks=masks, cuts=[[2**32 - 1]] * 100)
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    settings = {"block_size": 20, "packing": "best_fit", "eval_fraction": 0.1, "prepared": str(tmp_path / "store")}
    return Config(stage="sft", model=ModelConfig(path=str(tmp_path)), data=DataConfig(**(settings | data)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("long", "warned", "refused"), [(0, 0, 0), (1, 0, 0), (2, 1, 0), (5, 1, 0), (6, 1, 1)])
def test_the_shares_from_which_it_is_said_and_refused(tmp_path: Path, long: int, warned: int, refused: int) -> None:
    config = config_of(tmp_path, long)
    assert len(list(left_out.warning(config))) == warned
    assert len(list(left_out.problem(config))) == refused


def test_the_message_has_counts_and_settings_that_keep_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, 90)
    told = (
        "90 of 100 conversations (90.0%) are left out, as they have no exchange that fits into data.block_size=20 "
        "tokens; data.block_size=128 keeps 99.9% whole, data.truncation=split keeps all in several sequences"
    )
    assert list(left_out.problem(config)) == [f"data.max_dropped=0.05: {told}, or allow it by data.max_dropped=0.9"]
    assert list(left_out.warning(config)) == [f"warning: {told}"]
    config.data.block_size = 128
    assert list(left_out.warning(config)) == list(left_out.problem(config)) == []
    config.data.block_size, config.data.truncation = 20, "split"
    assert list(left_out.warning(config)) == []
    config.data.truncation, config.data.max_dropped = "drop", 0.9
    assert list(left_out.problem(config)) == []
    assert "as they are longer than data.block_size=20" in next(left_out.warning(config))


def test_a_model_that_takes_no_longer_sequences(tmp_path: Path) -> None:
    config = config_of(tmp_path, 90, context=64)
    assert "the model's context is 64 tokens, and 99.9% of them need 128; data.truncation=split" in next(
        left_out.problem(config)
    )


def test_text_is_never_left_out(tmp_path: Path) -> None:
    make_store(tmp_path / "store", [[1] * 50] * 4)
    data = DataConfig(block_size=8, packing="padded", prepared=str(tmp_path / "store"))
    assert list(left_out.warning(Config(stage="pretrain", data=data))) == []
