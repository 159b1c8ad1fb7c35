"""What this machine has to train on, asked of the driver so that the controller need not import torch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Devices:
    """`count` devices of one `kind`, cuda or cpu; `bf16` tells whether they compute in bfloat16."""

    kind: str
    count: int
    name: str
    bf16: bool

    @property
    def on_gpu(self) -> bool:
        return self.kind == "cuda"


CPU_RANKS = 2
"""Ranks on a machine without GPUs, unless launch.num_devices says otherwise."""


def detect() -> Devices:
    """The visible NVIDIA GPUs (CUDA_VISIBLE_DEVICES is respected), else the CPU."""
    indices = _visible_gpus()
    if not indices:
        return Devices(kind="cpu", count=CPU_RANKS, name="CPU", bf16=False)
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(indices[0])
        major, _ = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        name = pynvml.nvmlDeviceGetName(handle)
    finally:
        pynvml.nvmlShutdown()
    return Devices(kind="cuda", count=len(indices), name=str(name), bf16=major >= 8)


def _visible_gpus() -> list[int]:
    """NVML indices of the visible GPUs; the first visible one stands for an entry named by UUID."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None and (not wanted.strip() or wanted.startswith("-1")):
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        total = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except Exception:  # no driver, no library, or a driver too old to answer
        return []
    if wanted is None:
        return list(range(total))
    entries = [entry.strip() for entry in wanted.split(",") if entry.strip()]
    return [int(entry) if entry.isdigit() else 0 for entry in entries if not entry.isdigit() or int(entry) < total]
