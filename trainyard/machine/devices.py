"""What this machine has to train on, asked of the driver so that the controller need not import torch."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Devices:
    """`count` devices of one `kind`, cuda or cpu; `bf16` tells whether they compute in bfloat16."""

    kind: str
    count: int
    name: str
    bf16: bool
    indices: tuple[int, ...] = ()
    """Which of the machine's GPUs, in the order of the ranks."""

    @property
    def on_gpu(self) -> bool:
        return self.kind == "cuda"


CPU_RANKS = 2
"""Ranks on a machine without GPUs, unless launch.num_devices says otherwise."""


CPU = Devices(kind="cpu", count=CPU_RANKS, name="CPU", bf16=False)


def detect() -> Devices:
    """The visible NVIDIA GPUs (CUDA_VISIBLE_DEVICES is respected, indices and UUIDs), else the CPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, or one too old to answer
        return CPU
    try:
        indices = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), _uuids(pynvml))
        if not indices:
            return CPU
        handle = pynvml.nvmlDeviceGetHandleByIndex(indices[0])
        major, _ = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return Devices("cuda", len(indices), str(pynvml.nvmlDeviceGetName(handle)), major >= 8, tuple(indices))
    finally:
        pynvml.nvmlShutdown()


def visible(wanted: str | None, uuids: list[str]) -> list[int]:
    """Indices of the GPUs that CUDA_VISIBLE_DEVICES leaves, as CUDA reads it: up to the first entry that is none.

    `uuids` has an entry for every GPU of the machine, as GPU-0a1b...; an entry may be the start of one.
    """
    if wanted is None:
        return list(range(len(uuids)))
    indices: list[int] = []
    for entry in (item.strip() for item in wanted.split(",")):
        found = [
            i
            for i, uuid in enumerate(uuids)
            if entry == str(i) or (entry.startswith("GPU-") and uuid.startswith(entry))
        ]
        if not found:
            break
        indices.append(found[0])
    return indices


def _uuids(pynvml: Any) -> list[str]:
    handles = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount()))
    return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
