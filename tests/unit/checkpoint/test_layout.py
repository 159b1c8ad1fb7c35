"""How states are divided: equal layouts, what cannot be converted, and names of parameters."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainyard.checkpoint.layout import PARAMETERS, Layout, layout_of, ranks_under, renamed, saved_as
from trainyard.config.compose import compose

ZERO_2 = Layout(2, "bf16", {"stage": 2, "overlap_comm": True})


def test_ddp_is_stage_0_whatever_else_is_set() -> None:
    assert layout_of(compose("pretrain", ["deepspeed=none"])) == Layout()
    assert layout_of(compose("pretrain", ["deepspeed=none", "trainer.fp16=true"])) == Layout()
    assert Layout().to_json() is None and Layout.from_json(None) == Layout()


def test_a_layout_comes_from_the_json_of_deepspeed_and_the_precision(tmp_path: Path) -> None:
    given = {"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupLR"}, "steps_per_print": 5}
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(given))
    config = compose("pretrain", [f"deepspeed.config={file}", "trainer.bf16=true"])
    layout = layout_of(config)
    assert layout == Layout(3, "bf16", {"stage": 3}, scheduler={"type": "WarmupLR"})
    assert layout.to_json() == {
        "stage": 3,
        "precision": "bf16",
        "zero_optimization": {"stage": 3},
        "optimizer": None,
        "scheduler": {"type": "WarmupLR"},
        "data_types": None,
    }
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize(
    ("changed", "obstacle"),
    [
        ({}, None),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, None),
        ({"zero_optimization": {"offload_param": {"device": "nvme"}}}, "offloaded to NVMe"),
        ({"zero_optimization": {"mics_shard_size": 2}}, "mics_shard_size"),
        ({"zero_optimization": {"elastic_checkpoint": True}}, "elastic_checkpoint"),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, "grad_accum_dtype"),
        ({"data_types": {"grad_accum_dtype": "auto"}}, None),
        ({"optimizer": {"type": "AdamW"}}, None),
        ({"optimizer": {"type": "Lion"}}, "optimizer Lion"),
    ],
)
def test_what_cannot_be_converted_has_a_reason(changed: dict[str, Any], obstacle: str | None) -> None:
    found = replace(ZERO_2, **changed).obstacles()
    assert len(found) == (obstacle is not None)
    assert obstacle is None or obstacle in found[0]


def test_ddp_has_no_obstacles() -> None:
    assert Layout().obstacles() == []


def test_ranks_are_named_in_words() -> None:
    assert ranks_under(2, 2) == "2 ranks under ZeRO-2"
    assert ranks_under(1, 0) == "1 rank under DDP"


def test_an_adapters_name_is_left_out_when_it_is_saved(tmp_path: Path) -> None:
    assert saved_as("lora_A.default.weight", {"lora_A.weight"}) == "lora_A.weight"
    assert saved_as("norm.weight", {"norm.weight", "x"}) == "norm.weight"
    assert saved_as("norm.weight", {"x"}) is None


def test_a_renamed_parameter_is_found(tmp_path: Path) -> None:
    (tmp_path / PARAMETERS).write_text(json.dumps({"names": ["a", "b.default.c"]}))
    save_file({"a": np.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    assert renamed(tmp_path) == "b.default.c"
    save_file({"b.c": np.ones(2)}, tmp_path / "model-00002-of-00002.safetensors")
    assert renamed(tmp_path) is None
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"damaged")
    assert renamed(tmp_path) is None
