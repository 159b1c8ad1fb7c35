"""Changes of rotary embeddings over a base's own."""

import inspect
import re
from typing import Any

import pytest
from transformers.modeling_rope_utils import RotaryEmbeddingConfigMixin

from trainyard.config import rope

OLD = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "max_position_embeddings": 4096}
NEW = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}
LAYERS = {"rope_parameters": {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}}  # fmt: skip


def test_both_forms_of_a_config_are_one() -> None:
    assert rope.of_config(OLD) == rope.of_config(NEW) == NEW["rope_parameters"]
    assert rope.of_config({"rope_theta": 7.0}) == {"rope_theta": 7.0}
    assert rope.of_config({"rope_theta": 7.0, "rope_scaling": None}) == {"rope_theta": 7.0}
    assert rope.of_config({}) == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e5}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}, "rope_theta": 5e5},
    ],
)
def test_theta_is_never_lost(settings: dict[str, Any]) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e5, "original_max_position_embeddings": 4096}
    assert rope.merged(rope.of_config(OLD), rope.asked(settings), 4096) == yarn
    assert list(rope.problems(settings, rope.of_config(OLD))) == []


def test_what_is_not_named_stays() -> None:
    base = rope.of_config(NEW)
    assert rope.merged(base, rope.asked({"rope_theta": 1.0}), 10) == base | {"rope_theta": 1.0}
    assert rope.merged(base, rope.asked({"rope_scaling": {"factor": 8.0}}), 10) == base | {"factor": 8.0}
    assert rope.merged(base, rope.asked({"rope_scaling": None}), 10) == {"rope_type": "default", "rope_theta": 5e5}
    assert rope.asked({"hidden_size": 3}) == {}
    longer = rope.merged(
        base | {"original_max_position_embeddings": 99, "mrope_section": [1]}, {"rope_type": "yarn"}, 10
    )
    assert longer["original_max_position_embeddings"] == 99 and longer["mrope_section"] == [1]
    layers = rope.merged(LAYERS["rope_parameters"], {"full_attention": {"rope_theta": 2e6}}, 10)
    assert [layers[name]["rope_theta"] for name in layers] == [2e6, 1e4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rope_scaling": {"type": "yarn", "facter": 4.0}}, ".facter=4.0: rope_type=yarn has no such key. Did you "),
        ({"rope_scaling": {"type": "yarn"}}, "rope_type=yarn needs factor"),
        ({"rope_parameters": {"rope_type": "yran", "factor": 2.0}}, ".rope_type=yran: must be one of default, linear"),
        ({"rope_parameters": {"rope_thta": 2.0}}, ".rope_thta=2.0: rope_type=linear has no such key. Did you mean"),
        ({"rope_scaling": "yarn"}, "model.config.rope_scaling=yarn: must be a mapping"),
        ({"rope_parameters": {"rope_theta": 1.0}, "rope_theta": 2.0}, "config.rope_theta=2.0: rope_parameters has 1.0"),
    ],
)  # fmt: skip
def test_a_key_that_is_unknown_or_missing_is_an_error(settings: dict[str, Any], message: str) -> None:
    found = list(rope.problems(settings, rope.of_config(NEW) | {"rope_theta": 5e5}))
    assert message in found[0]
    if "yarn" not in str(settings):
        assert len(found) == 1


def test_parameters_of_each_layer_are_given_by_its_name() -> None:
    base = rope.of_config(LAYERS)
    assert list(rope.problems({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, base)) == []
    (flat,) = rope.problems({"rope_theta": 1.0}, base)
    assert "the model has parameters for each of full_attention, sliding_attention; name one" in flat
    (inner,) = rope.problems({"rope_parameters": {"full_attention": {"rope_thet": 1.0}}}, base)
    assert inner.startswith("model.config.rope_parameters.full_attention.rope_thet=1.0: rope_type=default has no such")


@pytest.mark.parametrize("kind", rope.TYPES)
def test_the_keys_are_those_of_the_library(kind: str) -> None:
    source = inspect.getsource(getattr(RotaryEmbeddingConfigMixin, f"_validate_{kind}_rope_parameters"))
    sets = re.findall(r"(required|optional)_keys = \{([^}]*)\}", source)
    keys = {key for _, text in sets for key in re.findall(r'"(\w+)"', text)} - {"rope_type", "rope_theta"}
    demanded, taken = rope.TYPES[kind]
    assert keys - set(demanded) - set(taken) == set()
    assert set(demanded) | set(taken) - {"original_max_position_embeddings"} <= keys
