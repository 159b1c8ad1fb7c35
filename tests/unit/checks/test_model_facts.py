"""Facts of models and tokenizers from their files alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.checks import model_facts
from trainyard.config.schema import ModelConfig


def test_settings_stand_over_the_file_s_and_a_language_part_is_looked_into(tmp_path: Path) -> None:
    values = {"hidden_size": 1, "text_config": {"hidden_size": 64, "max_position_embeddings": 512}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = model_facts.architecture(ModelConfig(path=str(tmp_path), num_hidden_layers=3, config={"rope_theta": 5.0}))
    assert (found["hidden_size"], found["num_hidden_layers"], found["rope_theta"]) == (64, 3, 5.0)
    assert model_facts.context(found) == 512
    assert model_facts.context({"n_positions": 1024}) == 1024
    assert model_facts.context({}) is None


QWEN = {
    "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
    "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip
MIXTRAL = LLAMA | {"vocab_size": 32000, "num_local_experts": 8}
GPT2 = {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "tie_word_embeddings": True}


@pytest.mark.parametrize(
    ("values", "billions"),
    [(QWEN, 1.54), (LLAMA, 8.03), (MIXTRAL, 46.7), (GPT2, 0.124)],
    ids=["qwen", "llama", "moe", "gpt2"],
)
def test_the_size_of_known_models(values: dict[str, Any], billions: float) -> None:
    assert model_facts.parameters(values, 0) == pytest.approx(billions * 1e9, rel=0.02)


def test_an_architecture_that_does_not_tell_has_no_size() -> None:
    assert model_facts.parameters({"d_model": 512}, 2048) is None


def test_where_a_template_lies_and_which_tokens_are_there(tmp_path: Path) -> None:
    config, template = tmp_path / "tokenizer_config.json", tmp_path / "chat_template.jinja"
    assert model_facts.has_chat_template("/no/where/at/all") is None
    config.write_text("{}")
    assert model_facts.has_chat_template(str(tmp_path)) is False
    template.write_text("{{ messages }}")
    assert model_facts.has_chat_template(str(tmp_path)) is True
    template.unlink()
    config.write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert model_facts.has_chat_template(str(tmp_path)) is True
    assert model_facts.knows_chatml(str(tmp_path)) is False
    tokens = [{"content": token, "special": True} for token in ("<|im_start|>", "<|im_end|>")]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    assert model_facts.knows_chatml(str(tmp_path)) is True
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens[:1]}))
    assert model_facts.knows_chatml(str(tmp_path)) is False
