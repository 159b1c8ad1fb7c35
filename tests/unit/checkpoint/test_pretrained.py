"""What save_pretrained writes and what goes through a writer are the same files, byte for byte."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from trainyard.checkpoint.pretrained import MAX_SHARD_SIZE, save_pretrained
from trainyard.checkpoint.writer import BackgroundWriter
from trainyard.config.schema import PeftConfig
from trainyard.model.adapters import adapt

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def llama(**settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **settings))


def mixture() -> PreTrainedModel:
    """transformers joins the experts' weights when it loads them, and saves them one by one."""
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=2))


def lora(base: PreTrainedModel, added: tuple[int, ...] = ()) -> Any:
    return adapt(base, PeftConfig(method="lora"), seed=5, added=added)


def with_trained_head() -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    settings = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    return get_peft_model(llama(tie_word_embeddings=True), LoraConfig(task_type=TaskType.CAUSAL_LM, **settings))


def content(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def written(model: Any, directory: Path, *args: Any, **settings: Any) -> dict[str, bytes]:
    """Of our save: its files, the tensors' among them only once they are written."""
    writer, gate = BackgroundWriter(), threading.Event()
    writer.then(gate.wait)
    directory.mkdir()
    save_pretrained(model, directory, writer.save_tensors, *args, **settings)
    assert not list(directory.rglob("*.safetensors"))
    gate.set()
    writer.wait()
    assert len(list(directory.rglob("*.safetensors"))) == len(writer.entries) > 0
    return content(directory)


MODELS: dict[str, Callable[[], Any]] = {
    "full": lambda: llama(tie_word_embeddings=False),
    "tied": lambda: llama(tie_word_embeddings=True),
    "bf16": lambda: llama(dtype=torch.bfloat16),
    "mixture": mixture,
    "lora": lambda: lora(llama()),
    "lora-tokens": lambda: lora(llama(tie_word_embeddings=False), (7, 9)),
    "lora-tokens-tied": lambda: lora(llama(tie_word_embeddings=True), (7, 9)),
    "lora-head": with_trained_head,
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("gathered", [False, True], ids=["own", "gathered"])
def test_the_files_are_those_of_the_library(tmp_path: Path, kind: str, gathered: bool) -> None:
    """Once with the model's own state dict, once with copies of all tensors, as ZeRO-3 gathers them."""
    model, state = MODELS[kind](), None
    if gathered:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "library")
    wanted = content(tmp_path / "library")
    configs = {"README.md", "adapter_config.json"} if "lora" in kind else {"config.json", "generation_config.json"}
    assert wanted.keys() == configs | {"adapter_model.safetensors" if "lora" in kind else "model.safetensors"}
    assert written(model, tmp_path / "ours", state) == wanted
    save_pretrained(model, tmp_path / "ours-at-once", tensors=state)
    assert content(tmp_path / "ours-at-once") == wanted


@pytest.mark.parametrize("kind", ["full", "mixture"])
def test_a_large_model_is_divided_into_the_same_files(tmp_path: Path, kind: str) -> None:
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "library", max_shard_size="5KB")
    wanted = content(tmp_path / "library")
    assert "model.safetensors.index.json" in wanted and len(wanted) > 5
    assert written(model, tmp_path / "ours", max_shard_size="5KB") == wanted


def test_the_largest_file_is_as_large_as_the_librarys() -> None:
    default = inspect.signature(PreTrainedModel.save_pretrained).parameters["max_shard_size"].default
    assert default == MAX_SHARD_SIZE


def test_the_model_is_as_before(tmp_path: Path) -> None:
    model = lora(llama(), (7,))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    written(model, tmp_path / "ours")
    assert model.peft_config["default"].inference_mode is False
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
