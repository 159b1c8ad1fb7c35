"""The DeepSpeed configuration of a run, kept in its directory."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trainyard.files import write_text


class DeepSpeedRecord(TrainerCallback):
    """Writes deepspeed.json as the engine got it, with every "auto" filled in."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        write_text(self.path, json.dumps(args.hf_deepspeed_config.config, indent=2, default=str))
