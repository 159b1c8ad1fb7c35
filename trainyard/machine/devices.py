"""The GPUs of this machine, as the driver tells, so that the controller need not import torch."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Devices:
    """Devices of one kind that the ranks of this machine may use."""

    kind: str
    """cuda or cpu."""
    count: int
    name: str
    """The name of the first device, from the driver."""
    bf16: bool
    """Do they compute in bfloat16?"""
    indices: tuple[int, ...] = ()
    """Indices among all GPUs of the machine, in the order of the ranks; empty on a CPU."""
    memory: int | None = None
    """Bytes of the first GPU's memory; None on a CPU."""

    @property
    def on_gpu(self) -> bool:
        """Are they GPUs?"""
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
        name, memory = str(pynvml.nvmlDeviceGetName(handle)), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        return Devices("cuda", len(indices), name, major >= 8, tuple(indices), memory)
    finally:
        pynvml.nvmlShutdown()


def visible(wanted: str | None, uuids: list[str]) -> list[int]:
    """Indices of the visible GPUs, as CUDA reads CUDA_VISIBLE_DEVICES: up to the first entry that names no GPU.

    Args:
        wanted: the variable: indices, UUIDs or beginnings of UUIDs, separated by commas; None: all GPUs are visible.
        uuids: the UUID of every GPU of the machine, in order, as GPU-0a1b....
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
