"""The model of a config, sized by its tokenizer."""

from typing import Any

import pytest
import torch

from trainyard.config.schema import Config, ModelConfig
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.training.model import build_model

SIZE = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def tokenizer(tokenizer_path: str) -> Any:
    return tokenizers.load(tokenizer_path)


def config(seed: int = 1) -> Config:
    made = Config(stage="pretrain", model=ModelConfig(model_type="llama", init="scratch", **SIZE))  # type: ignore[arg-type]
    made.run.seed = seed
    return made


def test_a_new_model_has_a_row_for_every_id_and_names_the_special_ones(tokenizer: Any) -> None:
    assert len(tokenizer) > 300
    model = build_model(config(), tokenizer)
    assert tuple(model.get_input_embeddings().weight.shape) == (len(tokenizer), 8)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    named = (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert named == (None, tokenizer.convert_tokens_to_ids("<|endoftext|>"), tokenizer.convert_tokens_to_ids("<|pad|>"))


def test_the_seed_of_the_run_decides_the_weights(tokenizer: Any) -> None:
    first, again, other = (build_model(config(seed), tokenizer).state_dict() for seed in (1, 1, 2))
    assert len(first) > 8 and all(weight.equal(again[name]) for name, weight in first.items())
    assert not first["model.embed_tokens.weight"].equal(other["model.embed_tokens.weight"])
