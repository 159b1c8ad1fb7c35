"""The metrics that an objective returns, on their way to metrics.jsonl."""

import torch
import torch.distributed as dist

from trainyard.training.objectives.objective import Metrics


class MetricSums:
    """Means over the global batch, averaged over the good steps since the last line of metrics.

    An objective without metrics costs nothing: no collective operation, and no wait for the device. No checkpoint keeps
    the sums: a resumed run begins the mean of its first line anew.
    """

    def __init__(self) -> None:
        self._step: dict[str, torch.Tensor] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    def add(self, metrics: Metrics, scale: float) -> None:
        """Adds a micro batch to the current step.

        Args:
            scale: makes the mean over the ranks of their sums in a step the value of the step, as for the loss.
        """
        _accumulate(self._step, {name: value.detach().double() * scale for name, value in metrics.items()})

    def end_step(self, *, good: bool) -> None:
        """Counts the current step, unless it is bad."""
        if good:
            _accumulate(self._sums, self._step)
            self._steps += 1
        self._step = {}

    def take(self) -> dict[str, float]:
        """The means since the last call, by name. Collective where there are metrics."""
        sums, steps = self._sums, self._steps
        self._sums, self._steps = {}, 0
        if not sums:
            return {}
        total = torch.stack(list(sums.values()))
        dist.all_reduce(total)
        means = total / (steps * dist.get_world_size())
        return dict(zip(sums, means.tolist(), strict=True))


def _accumulate(sums: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value
