"""python -m trainyard export: an adapter is merged into its base model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from trainyard.commands import export
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.inference import generate as inference
from trainyard.inference import load
from unit.learned import CHATML, Verb, answer, logits, user


def test_the_merged_model_is_the_adapted_one(adapter: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    target = tmp_path / "new" / "merged"
    assert verb("export", adapter, target) == 0
    assert f"{target}: float32" in capsys.readouterr().out
    merged, loaded = AutoModelForCausalLM.from_pretrained(target), load.load(str(adapter))
    torch.testing.assert_close(logits(merged), logits(loaded.model), rtol=1e-4, atol=1e-4)
    assert tokenizers.load(str(target)).chat_template == CHATML
    assert [path.name for path in target.parent.iterdir()] == ["merged"]
    assert not (target / "adapter_config.json").exists()
    prompt = [inference.encode(loaded.tokenizer, user("anything"))]
    assert answer(load.load(str(target)), prompt, max_new_tokens=9) == answer(loaded, prompt, max_new_tokens=9)


def test_tokens_that_were_added_are_exported_too(learned_run: Path, tmp_path: Path, verb: Verb) -> None:
    """As fine-tuning leaves them: embeddings of the adapter's own, larger than the base model's."""
    tokenizer = tokenizers.load(str(learned_run / "model"))
    rows = len(tokenizer)
    tokenizer.add_tokens(["<a>", "<b>"], special_tokens=True)
    network = AutoModelForCausalLM.from_pretrained(learned_run / "model")
    network.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    config.trainable_token_indices = {"embed_tokens": [rows, rows + 1], "lm_head": [rows, rows + 1]}
    trained = get_peft_model(network, config).eval()
    for directory in (tmp_path / "own",):
        trained.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    ids = torch.tensor([[5, rows, 6, rows + 1]])
    with torch.no_grad():
        wanted = trained(ids).logits
        torch.testing.assert_close(load.load(str(tmp_path / "own")).model(ids).logits, wanted)
        assert verb("export", tmp_path / "own", tmp_path / "merged") == 0
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert merged.config.vocab_size == rows + 2


def test_export_refuses(learned_run: Path, adapter: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "kept").touch()
    file.touch()
    for source, target, message in (
        (learned_run, tmp_path / "x", f"{learned_run}: holds no adapter; export merges one into its base model"),
        (adapter, full, f"{full}: it is not empty, and nothing is overwritten; give a new directory"),
        (adapter, file, f"{file}: it is a file"),
        (tmp_path / "gone", tmp_path / "x", "there is no such directory"),
        (adapter, file / "below", "it cannot be written"),
    ):
        assert verb("export", source, target) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert [path.name for path in full.iterdir()] == ["kept"]


def test_a_merge_that_changes_the_logits_is_not_saved(
    adapter: Path, tmp_path: Path, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    (tmp_path / "empty").mkdir()
    assert verb("export", adapter, tmp_path / "empty") == 2
    assert "merging changed the logits" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())
    monkeypatch.undo()
