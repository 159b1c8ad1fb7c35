"""Attributes of model.config: those that an architecture reads, and those that it would keep unread."""

from trainyard.checks.model_config import model_config_problems
from trainyard.config.schema import ModelConfig

READ = {"rope_theta": 1e6, "rope_parameters": {}, "attention_dropout": 0.1, "bos_token_id": 1, "rms_norm_eps": 1e-6}


def test_what_the_architecture_reads_is_known() -> None:
    for kind in ("llama", "qwen2", "qwen3", "mistral", "gpt2"):
        known = READ if kind != "gpt2" else {"n_inner": 8, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-5}
        assert list(model_config_problems(ModelConfig(model_type=kind, config=known), {})) == []


def test_a_misspelled_attribute_is_named_with_the_nearest() -> None:
    (message,) = model_config_problems(ModelConfig(model_type="llama", config={"atention_dropout": 0.1}), {})
    assert message == (
        "model.config.atention_dropout=0.1: a llama has no such attribute. Did you mean attention_dropout?"
    )
    (message,) = model_config_problems(ModelConfig(path="x", config={"zzzz": 1}), {"model_type": "qwen3"})
    assert message == "model.config.zzzz=1: a qwen3 has no such attribute. Leave it out"


def test_what_the_base_has_is_known_and_foreign_code_is_left_alone() -> None:
    odd = {"rope_of_mine": 1}
    assert list(model_config_problems(ModelConfig(path="x", config=odd), {"model_type": "llama", **odd})) == []
    assert list(model_config_problems(ModelConfig(model_type="llama", config=odd, trust_remote_code=True), {})) == []
    assert list(model_config_problems(ModelConfig(model_type="of_mine", config=odd), {})) == []
