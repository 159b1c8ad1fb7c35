import json
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard.config import deepspeed
from trainyard.config.schema import TrainerConfig


def test_ours_are_found_by_name_and_are_well_formed() -> None:
    files = sorted((ROOT / "ds_configs").glob("*.json"))
    assert len(files) == 5
    for file in files:
        assert deepspeed.find(file.stem) == file
        values = deepspeed.read(file.stem)
        assert deepspeed.malformed(values) == []
        assert deepspeed.stage(values) == int(file.stem[4])
        assert deepspeed.offloads(values) == file.stem.endswith("_offload")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "Give the path of a DeepSpeed JSON, or one of zero1, "), ("{", "not valid JSON"), ("[]", "this is a list")],
)
def test_a_missing_file_and_one_without_an_object_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        deepspeed.read(str(path))
    assert str(path) in str(caught.value)


def test_auto_and_missing_keys_agree_with_every_setting() -> None:
    trainer = TrainerConfig(global_batch_size=8, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    values = {"train_batch_size": "auto", "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "eps": 1e-8}}}
    assert deepspeed.contradictions(values, trainer) == []
    values["train_batch_size"] = 16  # type: ignore[assignment]
    (message,) = deepspeed.contradictions(values, trainer)
    assert message.startswith("train_batch_size is 16 in the DeepSpeed JSON, but trainer.global_batch_size is 8: ")


def test_completion_fills_in_what_is_missing_and_leaves_the_rest() -> None:
    given = {"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW"}, "train_batch_size": 4}
    before = json.dumps(given)
    assert deepspeed.complete(given, on_gpu=False) == {
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
        "train_batch_size": 4, "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }  # fmt: skip
    assert "params" not in deepspeed.complete(given, on_gpu=True)["optimizer"]
    assert json.dumps(given) == before
