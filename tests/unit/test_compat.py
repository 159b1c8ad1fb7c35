"""For every patch: the installed version is still wrong without it, and right with it.

A test that fails after an update of a library says that a patch of compat.py may be needed no more, or no longer works.
"""

import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tokenizers import small_tokenizer

from trainyard import compat


def fresh(name: str) -> Any:
    """A module as it is installed: in this process another test may have patched it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kernels that DeepSpeed would compile."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    names: list[str] = []
    builder = SimpleNamespace(
        NAME="deepspeed_shm_comm", load=lambda: names.append("shm"), absolute_name=lambda: "deepspeed_shm_comm"
    )
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", True)  # as on a CPU with a compiler
    monkeypatch.setattr(get_accelerator(), "create_op_builder", lambda name: builder)
    yield names


def test_deepspeed_compiles_a_kernel_for_inference(compiled: list[str]) -> None:
    from deepspeed.comm.torch import build_shm_op

    build_shm_op()
    assert compiled == ["shm"], "compat.skip_shared_memory_all_reduce can go"
    compat.skip_shared_memory_all_reduce()
    build_shm_op()
    assert compiled == ["shm"]


def test_deepspeed_has_no_other_way_to_expect_a_universal_checkpoint() -> None:
    from deepspeed.runtime.engine import DeepSpeedEngine

    parameters = inspect.signature(DeepSpeedEngine.load_checkpoint).parameters
    assert not [name for name in parameters if "universal" in name], "compat.expect_universal_checkpoint can go"
    engine: Any = DeepSpeedEngine.__new__(DeepSpeedEngine)
    torch.nn.Module.__init__(engine)
    engine._config = SimpleNamespace(load_universal_checkpoint=False)
    compat.expect_universal_checkpoint(engine, True)
    assert engine.load_universal_checkpoint() is True
    compat.expect_universal_checkpoint(engine, False)
    assert engine.load_universal_checkpoint() is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="peft finds the device that it asks for")
def test_peft_reads_added_rows_through_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    layer, table = TrainableTokensLayer.__new__(TrainableTokensLayer), torch.nn.Parameter(torch.rand(5, 2))
    own = fresh("peft.tuners.trainable_tokens.layer").TrainableTokensLayer._collect_token_weights
    with pytest.raises((RuntimeError, AssertionError), match=r"(?i)cuda|nvidia"):
        own(layer, table, torch.tensor([1, 3]), 2)
    monkeypatch.setattr(TrainableTokensLayer, "_collect_token_weights", own)
    compat.collect_token_rows_on_any_device()
    rows = layer._collect_token_weights(table, torch.tensor([1, 3]), 2)
    assert rows.equal(table[[1, 3]]) and not rows.requires_grad


def adapted() -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=12, **size))
    rows = {"embed_tokens": [3, 5]}
    return get_peft_model(network, LoraConfig(target_modules=["q_proj"], trainable_token_indices=rows))


def test_peft_does_not_tell_zero_3_what_its_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    told: list[tuple[Any, Any]] = []
    monkeypatch.setattr(deepspeed.zero, "register_external_parameter", lambda *given: told.append(given))
    model = adapted()
    (layer,) = (module for module in model.modules() if isinstance(module, TrainableTokensLayer))
    called: list[Any] = []
    layer.base_layer.register_forward_hook(lambda module, *_: called.append(module))
    model(input_ids=torch.tensor([[3, 4]]))
    assert not told and not called, "compat.announce_token_rows can go"
    compat.announce_token_rows(model)
    assert [module for module, _ in told] == [layer, layer]
    needed = [layer.trainable_tokens_delta["default"], layer.base_layer.weight]
    assert all(parameter is wanted for (_, parameter), wanted in zip(told, needed, strict=True))


def test_transformers_forgets_legacy_of_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = small_tokenizer("llama_legacy")
    tokenizer.init_kwargs.pop("legacy", None)
    tokenizer.save_pretrained(tmp_path / "without")
    saved = json.loads((tmp_path / "without" / "tokenizer_config.json").read_text())
    assert "legacy" not in saved, "compat.save_legacy can go"
    compat.save_legacy(tokenizer)
    tokenizer.save_pretrained(tmp_path / "with")
    assert json.loads((tmp_path / "with" / "tokenizer_config.json").read_text())["legacy"] is True
    compat.save_legacy(small_tokenizer("byte_level"))  # has no such setting


def test_swanlab_draws_all_charts_in_one_section(monkeypatch: pytest.MonkeyPatch) -> None:
    from swanlab.deprecated import local

    own = fresh("swanlab.deprecated.local")._ColumnInfo
    assert own("train/loss", "k", "line").section_name == "default", "compat.draw_charts_in_sections can go"
    monkeypatch.setattr(local, "_ColumnInfo", own)
    compat.draw_charts_in_sections()
    column = local._ColumnInfo("train/loss", "k", "line")
    assert (column.section_name, column.section_sort, column.key) == ("train", None, "train/loss")


def test_every_patch_has_a_test_and_imports_nothing_by_itself() -> None:
    patches = [name for name, value in vars(compat).items() if inspect.isfunction(value)]
    assert len(patches) == 6
    source = Path(__file__).read_text()
    assert [name for name in patches if f"compat.{name}(" not in source] == []
    heavy = "{'torch', 'deepspeed', 'peft', 'transformers', 'swanlab'}"
    code = f"import sys, trainyard.compat; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
