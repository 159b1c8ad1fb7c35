"""Optional packages behind settings, told before the launch with the command that installs them."""

import importlib.util
import json
from pathlib import Path

import pytest

from trainyard.checks import packages
from trainyard.config.training_arguments import argument_fields
from trainyard.machine.devices import CPU
from unit.checking import H200, only, resolved

NEEDS = {
    "trainer.optim=adamw_8bit": "needs bitsandbytes; install it with pip install bitsandbytes",
    "trainer.optim=paged_lion_8bit": "needs bitsandbytes; install it with pip install bitsandbytes",
    "trainer.optim=adamw_torch_4bit": "needs torchao; install it with pip install torchao",
    "trainer.optim=schedule_free_adamw": "needs schedulefree; install it with pip install schedulefree",
    "trainer.use_liger_kernel=true": "needs liger_kernel; install it with pip install liger-kernel",
    "trainer.torch_compile_backend=tvm": "needs tvm; install it with pip install apache-tvm",
    "model.attn_implementation=flash_attention_2": (
        "needs flash_attn; install it with pip install flash-attn --no-build-isolation"
    ),
    "model.attn_implementation=kernels-community/flash-mla": "needs kernels; install it with pip install kernels",
    "model.attn_implementation=flash_attn": "must be one of eager, sdpa, flex_attention, flash_attention_2, ",
}


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = {override: resolved(tmp_path, override, devices=H200) for override in NEEDS}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for override, message in NEEDS.items():
        problems = list(packages.package_problems(configs[override], H200))
        assert len(problems) == 1 and problems[0].startswith(f"{override}: {message}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    there = [override for override in NEEDS if not list(packages.package_problems(configs[override], H200))]
    assert len(there) == len(NEEDS) - 1


def test_kernels_of_a_gpu_are_refused_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, real=importlib.util.find_spec: real(name) or name)
    for override in ("trainer.use_liger_kernel=true", "model.attn_implementation=flash_attention_3"):
        problems = list(packages.package_problems(resolved(tmp_path, override), CPU))
        assert len(problems) == 1 and "a GPU, and this machine has none" in problems[0]


def test_every_optimizer_of_transformers_is_known_here() -> None:
    """A new one must be sorted: does it need a package, and does it train under ZeRO?"""
    from trainyard.checks import optimizers

    ours = {"adamw_torch", "adamw_torch_fused", "sgd", "rmsprop", "adagrad", "adafactor"}
    known = {*ours, *packages.OPTIMIZERS, *optimizers.NOT_RESUMED, *optimizers.OTHER_UNDER_ZERO}
    assert set(argument_fields()["optim"].choices) == known


def test_quantised_weights_are_trained_by_adapters_and_need_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    config = resolved(tmp_path, f"model.path={tmp_path}")
    architecture = json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    full, package = packages.quantization_problems(config, architecture)
    assert "quantised by gptq, and cannot be trained themselves; set peft=lora" in full
    assert package.endswith("which needs gptqmodel; install it with pip install gptqmodel")
    config.peft.method = "lora"
    assert list(packages.quantization_problems(config, architecture)) == [package]
    assert list(packages.quantization_problems(config, {})) == []


def test_the_check_is_part_of_a_request(tmp_path: Path) -> None:
    assert "needs a GPU" in only(tmp_path, "model.attn_implementation=flash_attention_2")
