"""The layers of a tiny model that get adapters, and the first weights of these."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.config.schema import PeftConfig
from trainyard.model.adapters import adapt
from trainyard.model.size import count_parameters

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def network() -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, num_key_value_heads=1, tie_word_embeddings=False, **size)).eval()


def adapted(target_modules: Any = "all-linear", *, seed: int = 5, **settings: Any) -> Any:
    return adapt(network(), PeftConfig(method="lora", target_modules=target_modules, **settings), seed=seed)


def layers(model: Any) -> set[tuple[int, str]]:
    """The number of the block and the name of every layer with an adapter."""
    names = [name.split(".") for name, _ in model.named_modules() if name.endswith(".lora_A")]
    assert all("layers" in name for name in names), names
    return {(int(name[name.index("layers") + 1]), name[-2]) for name in names}


@pytest.mark.parametrize("target_modules, wanted", [
    ("all-linear", {(block, name) for block in range(3) for name in LINEAR}),
    (["q_proj", "v_proj"], {(block, name) for block in range(3) for name in ("q_proj", "v_proj")}),
    (r".*\.[02]\.(self_attn|mlp)\.(o|up)_proj", {(0, "o_proj"), (0, "up_proj"), (2, "o_proj"), (2, "up_proj")}),
    (["layers.1.mlp.down_proj"], {(1, "down_proj")}),
])  # fmt: skip
def test_adapters_are_where_the_target_modules_say(target_modules: Any, wanted: set[tuple[int, str]]) -> None:
    assert layers(adapted(target_modules)) == wanted


def test_only_adapters_are_trained() -> None:
    model = adapted(["q_proj", "v_proj"], r=4)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * 2 * 2
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    before, _ = count_parameters(network())
    size = 3 * 4 * (16 + 16 + 16 + 8)  # blocks x r x (q: in + out, v: in + out)
    assert count_parameters(model) == (before + size, size)


def test_an_adapter_starts_as_nothing_and_counts_by_alpha_over_r() -> None:
    ids = torch.arange(8).unsqueeze(0)
    model = adapted(["q_proj"], r=4, alpha=12, dropout=0.5).eval()
    with torch.no_grad():
        assert model(ids).logits.equal(network()(ids).logits)
        (layer, *_) = (module for name, module in model.named_modules() if name.endswith("0.self_attn.q_proj"))
        layer.lora_B["default"].weight.fill_(1.0)
        hidden = torch.randn(2, 16)
        added = layer(hidden) - layer.base_layer(hidden)
        wanted = 12 / 4 * layer.lora_A["default"](hidden).sum(-1, keepdim=True).expand(-1, 16)
    torch.testing.assert_close(added, wanted)
    assert layer.lora_dropout["default"].p == 0.5


def first_weights(model: Any) -> list[torch.Tensor]:
    return [parameter.detach() for name, parameter in model.named_parameters() if ".lora_A." in name]


def test_first_weights_follow_from_the_seed_alone() -> None:
    ours = first_weights(adapted(seed=5))
    plain = network()
    torch.manual_seed(123)  # draws before do not matter
    expected = torch.randn(3)
    torch.manual_seed(123)
    again = adapt(plain, PeftConfig(method="lora"), seed=5)
    assert torch.randn(3).equal(expected)  # and draws afterwards stay the same
    assert len(ours) == 3 * len(LINEAR)
    assert all(one.equal(other) for one, other in zip(ours, first_weights(again), strict=True))
    assert not ours[0].equal(first_weights(adapted(seed=6))[0])


def test_without_a_method_the_model_is_as_it_was() -> None:
    model = network()
    assert adapt(model, PeftConfig(), seed=5) is model
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("target_modules", [["query"], r".*\.7\..*"])
def test_target_modules_that_match_nothing_are_an_error(target_modules: Any) -> None:
    with pytest.raises(ValueError, match=r"[Tt]arget.modules.* not found in the base model"):
        adapted(target_modules)


@pytest.mark.parametrize("override, wanted, number", [
    (r"peft.target_modules='.*\.[02]\.(self_attn|mlp)\.(o|up)_proj'", r".*\.[02]\.(self_attn|mlp)\.(o|up)_proj", 4),
    (r"peft.target_modules='model\.layers\.\d{1,2}\.self_attn\.[qv]_proj$'",
     r"model\.layers\.\d{1,2}\.self_attn\.[qv]_proj$", 6),
    (r"peft.target_modules=.*\.1\..*_proj", r".*\.1\..*_proj", 7),
    ("peft.target_modules=[q_proj, v_proj]", ["q_proj", "v_proj"], 6),
    ("peft=lora", "all-linear", 21),
])  # fmt: skip
def test_an_override_selects_the_layers_that_it_names(tmp_path: Path, override: str, wanted: Any, number: int) -> None:
    """An override goes through Hydra's quoting and the run's config.yaml, which every rank reads."""
    saved.save(compose("sft", ["peft=lora", override]), tmp_path / "config.yaml")
    peft = saved.load(tmp_path / "config.yaml").peft
    assert peft.target_modules == wanted
    assert len(layers(adapt(network(), peft, seed=0))) == number
