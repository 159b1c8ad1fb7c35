"""The DeepSpeed configuration of a run, kept in its directory."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class DeepSpeedRecord(TrainerCallback):
    """Writes deepspeed.json as the engine got it, with every "auto" filled in."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.path.write_text(json.dumps(args.hf_deepspeed_config.config, indent=2, default=str), encoding="utf-8")
