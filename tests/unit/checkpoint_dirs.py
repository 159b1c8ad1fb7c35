"""A small checkpoint to damage, choose and delete."""

import pickle
from pathlib import Path

from trainyard.checkpoint.manifest import Manifest, entries


def make(directory: Path, step: int) -> Path:
    path = directory / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "global_step" / "optim.pt").write_bytes(pickle.dumps({"moments": [0.5] * step}))
    Manifest(step=step, world_size=2, files=entries(path)).write(path)
    return path
