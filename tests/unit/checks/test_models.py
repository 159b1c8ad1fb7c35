"""Mistakes about a model and its tokenizer that are found before anything starts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainyard.checks import models
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.machine.devices import CPU
from unit.checking import found, only


def model_of(directory: Path, tokenizer: dict[str, Any] | None = None, **values: Any) -> Path:
    """A directory with a config, a tokenizer's config and the weights of two layers."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **values}))
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer or {"chat_template": "{{ messages }}"}))
    layers = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj")
    tensors = {f"{layer}.weight": np.zeros((2, 2), np.float32) for layer in layers}
    save_file(tensors | {"model.norm.weight": np.zeros(2, np.float32)}, directory / "model.safetensors")
    return directory


def problems(*overrides: str) -> list[str]:
    config = compose("sft", overrides)
    resolve(config, overrides, CPU, {})
    return list(models.model_problems(config))


def test_block_longer_than_the_context(tmp_path: Path) -> None:
    assert "context is 1024 tokens" in only(tmp_path, "data.block_size=2000")
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 32}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    assert "context is 32 tokens" in only(tmp_path, f"model.path={tmp_path}", "data.block_size=64")


def test_pretrained_weights_have_their_own_shape(tmp_path: Path) -> None:
    model_of(tmp_path)
    assert "model.init=scratch" in only(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8")
    assert found(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8", "model.init=scratch") == []


@pytest.mark.parametrize(("given", "wrong"), [([], True), (["data.chat_template=plain"], False)])
def test_a_model_without_a_chat_template_is_named_before_the_preparation(
    tmp_path: Path, given: list[str], wrong: bool
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    overrides = [f"model.path={tmp_path}", *given]
    named = [message for message in problems(*overrides) if "chat_template" in message]
    assert len(named) == wrong
    assert not wrong or f"the tokenizer of {tmp_path} has no chat template; set data.chat_template=plain" in named[0]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("[q_proj, up_proj]", ""),
        ("[self_attn.q_proj]", ""),
        ("'.*layers.0.*(q|up)_proj'", ""),
        ("[q_proj, v_prj]", "no layer of the model is called v_prj; did you mean "),
        ("[Wqkv]", "no layer of the model is called Wqkv; there are q_proj, up_proj"),
        ("'.*k_prj'", "the expression matches no layer whole; there are q_proj, up_proj"),
    ],
)
def test_target_modules_that_match_nothing_are_named(tmp_path: Path, targets: str, message: str) -> None:
    model_of(tmp_path)
    said = problems(f"model.path={tmp_path}", "peft=lora", f"peft.target_modules={targets}")
    assert len(said) == bool(message)
    assert not message or message in said[0]


def test_target_modules_of_a_model_from_scratch_are_those_of_its_code() -> None:
    assert problems("peft=lora", "peft.target_modules=[q_proj, down_proj]") == []
    (message,) = problems("peft=lora", "peft.target_modules=[q_porj]")
    assert message == "peft.target_modules: no layer of the model is called q_porj; did you mean q_proj?"


def test_code_that_comes_with_a_model_is_asked_for_by_our_setting(tmp_path: Path) -> None:
    model_of(tmp_path, model_type="of_its_own", auto_map={"AutoModelForCausalLM": "modeling.Own"})
    (message,) = problems(f"model.path={tmp_path}")
    assert message.startswith("model.trust_remote_code=false: ") and "set model.trust_remote_code=true" in message
    assert problems(f"model.path={tmp_path}", "model.trust_remote_code=true") == []
    model_of(tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Own"})  # of a type that transformers has itself
    assert problems(f"model.path={tmp_path}") == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{attention_dropout: 0.1, rope_theta: 5e5, vocab_size: 64}", ""),
        ("{rope_scaling: {type: yarn, facter: 2}}", "rope_type=yarn has no such key. Did you mean factor?"),
    ],
)
def test_a_change_of_rope_is_checked_against_the_base(tmp_path: Path, setting: str, message: str) -> None:
    model_of(tmp_path, rope_theta=1e4)
    for given in ([f"model.path={tmp_path}"], []):
        said = problems(*given, f"model.config={setting}")
        assert bool(said) == bool(message), said
        assert not message or message in said[0]


def test_a_variable_that_no_template_reads_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{% if enable_thinking %}{{ messages }}{% endif %}")

    def problems(*overrides: str) -> list[str]:
        config = compose("sft", [f"tokenizer.path={tmp_path}", *overrides])
        return list(models.template_variable_problems(config))

    own, mine = "data.chat_template=null", "data.chat_template='{{ messages }}{{ depth }}'"
    assert problems(own, "data.template_variables={enable_thinking: false}") == []
    (message,) = problems(own, "data.template_variables.enable_thinkin=false")
    assert message.endswith("enable_thinkin: the chat template reads no such variable. Did you mean enable_thinking?")
    assert problems(mine, "data.template_variables={depth: 1}") == []
    assert problems(mine, "data.template_variables={zzz: 1}")[0].endswith("reads no such variable. Leave it out")
    assert problems(own, "tokenizer.path=somebody/elsewhere", "data.template_variables={zzz: 1}") == []
