"""Load and memory of every rank's device, gathered for the metrics."""

import math
import resource
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import distributed

GIB = 2**30


class DeviceMonitor:
    """Reads this rank's process and device. A call asks the driver, which takes a few milliseconds."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first answer is always 0: it covers the time since the last call

    def read(self) -> dict[str, float]:
        """The figures of this moment, by name.

        `cpu_percent` is of one core, since the last call, over all threads. `memory_gib` is the peak: reserved on the
        GPU, or resident on the host where there is no GPU. With a GPU there are also `gpu_percent` of the time busy,
        `gpu_watts` and `gpu_celsius`; each is NaN where the driver does not tell, as for a part of a GPU.
        """
        values = {"cpu_percent": self._process.cpu_percent()}
        if not torch.cuda.is_available():
            return {**values, "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB}
        return {
            **values,
            "memory_gib": torch.cuda.max_memory_reserved() / GIB,
            "gpu_percent": _asked(torch.cuda.utilization),
            "gpu_watts": _asked(torch.cuda.power_draw) / 1000,
            "gpu_celsius": _asked(torch.cuda.temperature),
        }


def _asked(driver: Callable[[], int]) -> float:
    try:
        return float(driver())
    except Exception:  # the driver's library has errors of its own, and no figure is worth a failure
        return float("nan")


def of_all_ranks(values: dict[str, float], device: torch.device) -> dict[str, list[float]]:
    """Collective. Every rank's values by name, in the order of the ranks, without those that are NaN on any rank."""
    own = torch.tensor(list(values.values()), dtype=torch.float32, device=device)
    gathered: Sequence[torch.Tensor] = [own]
    if distributed.is_initialized():
        gathered = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(gathered, own)
    columns = dict(zip(values, torch.stack(list(gathered)).T.tolist(), strict=True))
    return {
        name: [round(value, 3) for value in column]
        for name, column in columns.items()
        if all(map(math.isfinite, column))
    }
