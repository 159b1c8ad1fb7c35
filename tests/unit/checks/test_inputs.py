from pathlib import Path

import pytest

from trainyard.checks import inputs
from unit.checking import found, only, resolved
from unit.stores import make_store


def test_missing_paths_are_named(tmp_path: Path) -> None:
    assert "nowhere.txt" in only(tmp_path, "data.sources=[{path: /nowhere.txt, format: text}]")
    assert "no file matches" in only(tmp_path, "data.sources=[{path: '/nowhere/*.txt', format: text}]")
    assert "no such directory" in found(tmp_path, "model.path=/nowhere/model")[0]
    assert "no such directory" in only(tmp_path, "tokenizer.path=/nowhere/tokenizer")
    assert "No such file" in only(tmp_path, "deepspeed.config=/nowhere.json")


@pytest.mark.parametrize(
    "setting",
    ["paths.outputs", "model.path", "tokenizer.path", "run.resume", "launch.hostfile", "deepspeed.config"],
)
def test_an_address_in_place_of_a_path_is_named_as_such(tmp_path: Path, setting: str) -> None:
    told = found(tmp_path, f"{setting}=s3://bucket/x")
    assert told[0].startswith(f"{setting}=s3://bucket/x: lies in an object store (s3)")


def test_conversations_that_are_all_too_long_need_a_larger_block(tmp_path: Path) -> None:
    make_store(tmp_path / "store", [[1] * 50] * 4, masks=[[1] * 50] * 4, cuts=[[0]] * 4)
    config = resolved(tmp_path, "data.block_size=8", "data.packing=padded", "data.eval_fraction=0")
    config.data.prepared = str(tmp_path / "store")
    (message,) = inputs.prepared_problems(config)
    assert message.startswith("data.block_size=8: every conversation to train on is longer") and "larger" in message
