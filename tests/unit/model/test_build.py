"""Models from an architecture and from weights, and rows for added tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from trainyard.config.schema import ModelConfig
from trainyard.model.build import add_rows, architecture, build

SIZE = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
SPECIAL = {"bos_token_id": None, "eos_token_id": 3, "pad_token_id": 4}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Pretrained weights with forty rows."""
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=40, **SIZE)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def scratch(vocab_size: int, own_vocab: bool, **settings: Any) -> Any:
    config = ModelConfig(model_type="llama", init="scratch", **SIZE, **settings)
    return build(config, vocab_size, dict(SPECIAL), seed=1, own_vocab=own_vocab)


@pytest.mark.parametrize(("own_vocab", "vocab_size", "rows"), [(True, 50, 50), (False, 50, 60), (False, 70, 70)])
def test_a_model_from_scratch_has_a_row_for_every_id(own_vocab: bool, vocab_size: int, rows: int) -> None:
    model = scratch(vocab_size, own_vocab, config={"vocab_size": 60})
    assert tuple(model.get_input_embeddings().weight.shape) == (rows, 8)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (None, 3, 4)
    assert model.dtype == torch.float32


def test_pretrained_weights_are_loaded_as_they_are(base: Path) -> None:
    model = build(ModelConfig(path=str(base), init="pretrained"), 40, {}, seed=1, own_vocab=False)
    saved = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert len(saved) > 15 and all(saved[name].equal(weight) for name, weight in model.state_dict().items())


def test_a_tokenizer_of_another_model_is_an_error(base: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the tokenizer has 41 ids and the embeddings of .* 40 rows; set tokenizer.path"
    ):
        build(ModelConfig(path=str(base), init="pretrained"), 41, {}, seed=1, own_vocab=False)


def test_added_tokens_get_the_mean_of_the_rows_before_them(base: Path) -> None:
    model = build(ModelConfig(path=str(base), init="pretrained"), 42, {}, seed=1, own_vocab=False, added=[40, 41])
    saved = AutoModelForCausalLM.from_pretrained(base)
    assert model.config.vocab_size == 42
    for layer, before in (
        (model.get_input_embeddings(), saved.get_input_embeddings()),
        (model.get_output_embeddings(), saved.get_output_embeddings()),
    ):
        assert layer.weight[:40].equal(before.weight)
        torch.testing.assert_close(layer.weight[40:], before.weight.mean(0).expand(2, -1))


def test_rows_in_reserve_are_used_first(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    add_rows(model, 38, [36, 37])
    rows = model.get_input_embeddings().weight
    assert len(rows) == 40
    torch.testing.assert_close(rows[36:38], rows[:36].mean(0).expand(2, -1))


def test_settings_change_the_architecture_of_a_path(base: Path) -> None:
    found = architecture(ModelConfig(path=str(base), num_hidden_layers=3, config={"rope_theta": 500.0}))
    assert (found.num_hidden_layers, found.hidden_size, found.rope_parameters["rope_theta"]) == (3, 8, 500.0)


YARN = {"rope_type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_parameters": YARN},
        {"rope_theta": 7e4, "rope_scaling": YARN},
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_a_change_of_rope_keeps_the_bases_theta(base: Path, settings: dict[str, Any], old: bool) -> None:
    """For a base in the form of transformers 4 and of 5."""
    file = base / "config.json"
    values = json.loads(file.read_text())
    values.pop("rope_parameters")
    theta = {"rope_theta": 7e4}
    file.write_text(json.dumps(values | (theta if old else {"rope_parameters": theta | {"rope_type": "default"}})))
    model = build(ModelConfig(path=str(base), config=settings, init="pretrained"), 40, {}, seed=1, own_vocab=False)
    assert model.config.rope_parameters == {
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 7e4,
        "original_max_position_embeddings": values["max_position_embeddings"],
    }  # fmt: skip
    plain = build(ModelConfig(path=str(base), init="pretrained"), 40, {}, seed=1, own_vocab=False)
    assert plain.config.rope_parameters["rope_theta"] == 7e4
    assert not torch.equal(model.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq)
    with pytest.raises(ValueError, match="rope_type=yarn has no such key"):
        architecture(ModelConfig(path=str(base), config={"rope_scaling": {"type": "yarn", "facter": 4.0}}))


def test_a_longer_context_scales_from_the_bases_length(base: Path) -> None:
    settings = {"rope_scaling": {"type": "yarn", "factor": 4.0}}
    found = architecture(ModelConfig(path=str(base), max_position_embeddings=8192, config=settings))
    assert found.max_position_embeddings == 8192
    assert found.rope_parameters["original_max_position_embeddings"] == 2048
    scratch = architecture(ModelConfig(model_type="llama", config=settings | {"rope_theta": 3.0}))
    assert (scratch.rope_parameters["rope_theta"], scratch.rope_parameters["rope_type"]) == (3.0, "yarn")
