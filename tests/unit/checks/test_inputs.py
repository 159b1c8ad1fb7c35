import json
from pathlib import Path

from unit.checking import found, only


def test_block_longer_than_the_context(tmp_path: Path) -> None:
    assert "context is 1024 tokens" in only(tmp_path, "data.block_size=2000")
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 32}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "context is 32 tokens" in only(tmp_path, f"model.path={tmp_path}")


def test_missing_paths_are_named(tmp_path: Path) -> None:
    assert "nowhere.txt" in only(tmp_path, "data.sources=[{path: /nowhere.txt, format: text}]")
    assert "no file matches" in only(tmp_path, "data.sources=[{path: '/nowhere/*.txt', format: text}]")
    assert "no such directory" in found(tmp_path, "model.path=/nowhere/model")[0]
    assert "no such directory" in only(tmp_path, "tokenizer.path=/nowhere/tokenizer")
    assert "No such file" in only(tmp_path, "deepspeed.config=/nowhere.json")


def test_pretrained_weights_have_their_own_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "model.init=scratch" in only(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8")
    assert found(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8", "model.init=scratch") == []
