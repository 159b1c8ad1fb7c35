"""deepspeed.json as the engine got it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from trainyard.training.callbacks.deepspeed_record import DeepSpeedRecord


def test_the_configuration_is_written_when_training_begins(tmp_path: Path) -> None:
    values = {"train_batch_size": 8, "data_types": torch.float32}
    args: Any = SimpleNamespace(hf_deepspeed_config=SimpleNamespace(config=values))
    DeepSpeedRecord(tmp_path / "deepspeed.json").on_train_begin(args, None, None)
    written = json.loads((tmp_path / "deepspeed.json").read_text())
    assert written == {"train_batch_size": 8, "data_types": "torch.float32"}
