"""Tokens that are added to a model's tokenizer and trained with LoRA under ZeRO-3: in the adapter and in the export."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import Finished, clean_env

from trainyard.config import saved


def trainyard(*arguments: str) -> str:
    command = [sys.executable, "-m", "trainyard", *arguments]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_added_tokens_are_trained_with_the_adapter_and_exported(lora_run: Finished, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = load_file(lora_run.run / "model" / "adapter_model.safetensors")
    (name,) = (name for name in adapter if "embed_tokens" in name and name.endswith("trainable_tokens_delta"))
    rows = adapter[name]
    assert rows.shape == (3, 64)
    assert not any("base_layer" in name for name in adapter), "the whole table is saved"
    base = saved.load(lora_run.run / "config.yaml").model.path
    before = load_file(f"{base}/model.safetensors")["model.embed_tokens.weight"].mean(0)
    moved = (rows - before).abs().amax(1)
    assert (moved > 0).all() and (moved < 0.01).all(), "they do not start from the mean"  # six steps of 3e-4 at most

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("say 1\nsay 2\n")
    merged = tmp_path / "merged"
    trainyard("export", str(lora_run.run), str(merged))
    limit = ("--prompts", str(prompts), "--max-new-tokens", "8")
    answers = [trainyard("generate", str(place), *limit) for place in (lora_run.run, merged)]
    responses = [[json.loads(line)["response"] for line in told.splitlines()] for told in answers]
    assert responses[0] == responses[1] and len(responses[0]) == 2
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged)
    ids = tokenizer.convert_tokens_to_ids(["<|q|>", "<|a|>", "<|end|>"])
    assert model.get_input_embeddings().weight[ids].equal(rows)
    assert ids[2] in model.generation_config.eos_token_id
