"""A model from a run, a directory or an adapter, and what cannot be loaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.inference import generate as inference
from trainyard.inference import load
from unit.learned import CHATML, QUESTION, Verb, answer, logits, user


def test_a_run_brings_its_template_variables(learned_run: Path) -> None:
    config = compose("sft", [])
    config.data.template_variables = {"enable_thinking": False}
    saved.save(config, learned_run / "config.yaml")
    (learned_run / "status.json").write_text("{}")
    try:
        for path in (learned_run, learned_run / "model"):
            assert load.load(str(path)).variables == {"enable_thinking": False}
    finally:
        (learned_run / "config.yaml").unlink()
    assert load.load(str(learned_run)).variables == {}


def test_an_adapter_is_loaded_on_its_base(learned_run: Path, adapter: Path, learned: load.Loaded) -> None:
    loaded = load.load(str(adapter))
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template == CHATML
    changed = logits(loaded.model)
    assert torch.equal(changed, logits(loaded.model))  # its dropout is off
    assert (changed - logits(learned.model)).abs().max() > 0.1
    with loaded.model.disable_adapter():
        assert torch.equal(logits(loaded.model), logits(learned.model))
    prompt = inference.encode(loaded.tokenizer, user(QUESTION))
    assert answer(loaded, [prompt], max_new_tokens=10) != answer(learned, [prompt], max_new_tokens=10)


def broken(learned_run: Path, adapter: Path, tmp_path: Path, what: str) -> Path:
    """A directory that cannot be loaded."""
    path = tmp_path / what
    path.mkdir()
    if what == "unfinished":
        (path / "config.yaml").write_text("stage: sft")
    if what in ("unknown", "untokenized"):
        kind = {"model_type": "abacus"} if what == "unknown" else {}
        (path / "config.json").write_text(
            json.dumps(json.loads((learned_run / "model/config.json").read_text()) | kind)
        )
    if what == "untokenized":
        (path / "model.safetensors").write_bytes((learned_run / "model/model.safetensors").read_bytes())
    if what == "baseless":
        config = json.loads((adapter / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", "holds neither config.json nor adapter_config.json. Give the directory of a finished run"),
        ("unfinished", "this run has left no model yet"),
        ("unknown", "it cannot be loaded: .*abacus"),
        ("untokenized", "holds no tokenizer; save it there with save_pretrained"),
        ("baseless", "its base model ./gone is not there; put it back"),
    ],
)
def test_what_cannot_be_loaded(
    learned_run: Path, adapter: Path, tmp_path: Path, what: str, message: str, verb: Verb, capsys: Any
) -> None:
    path = broken(learned_run, adapter, tmp_path, what)
    assert verb("generate", path, "x") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"error: .*{what}.*{message}", error)
