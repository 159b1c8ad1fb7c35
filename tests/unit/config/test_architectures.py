"""What is read of transformers' code agrees with what it is when it is imported."""

from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

from trainyard.config import architectures


def test_known_types_are_those_of_the_library() -> None:
    names = [name for name in CONFIG_MAPPING_NAMES if not architectures.is_known(name)]
    assert len(CONFIG_MAPPING_NAMES) > 300
    assert names in ([], ["kosmos-2.5"])
    assert not architectures.is_known("llamma")


def test_layers_are_read_from_the_code() -> None:
    assert {"q_proj", "down_proj", "lm_head"} <= architectures.layers("llama")
    assert "c_attn" in architectures.layers("gpt2")
    assert architectures.layers("no such type") == frozenset()
