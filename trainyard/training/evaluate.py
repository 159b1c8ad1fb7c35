"""The evaluation: the mean loss over all held-out items of all ranks, whatever the batches are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from trainyard.errors import StoppedError
from trainyard.rundir.messages import Phase
from trainyard.rundir.rank import Rank
from trainyard.training.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class Evaluator:
    """Runs the objective over the held-out batches of every rank."""

    objective: Objective
    rank: Rank
    must_stop: Callable[[], bool]
    """Collective: asked before every batch, with the same answer on all ranks."""

    def run(
        self, model: Any, batches: Iterable[Any], prepare: Callable[[Any], Batch], *, takes_count: bool
    ) -> dict[str, float]:
        """Collective. The mean `loss`, the figures derived from it, and the means of the objective's metrics.

        Args:
            model: as the Trainer has wrapped it; it is left in eval mode.
            batches: the same number on every rank.
            prepare: puts a batch on the rank's device.
            takes_count: the model's loss takes num_items_in_batch; with 1 the mean becomes a sum.

        Raises:
            StoppedError: on all ranks, when the ranks are to stop.
        """
        model.eval()
        sums: dict[str, torch.Tensor] = {}
        items = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for number, batch in enumerate(batches):
                if self.must_stop():
                    raise StoppedError
                self.rank.note(phase=Phase.EVALUATING, batch=number)
                inputs = prepare(batch)
                count = self.objective.items(inputs)
                if takes_count:
                    inputs = {**inputs, "num_items_in_batch": torch.ones((), device=count.device)}
                loss, metrics = self.objective(model, inputs)
                for name, value in {"loss": loss, **metrics}.items():
                    total = value if takes_count else value * count
                    sums[name] = sums.get(name, 0.0) + torch.where(count > 0, total.double(), 0.0)
                items = items.to(count.device) + count.double()
        reduced = torch.stack([*sums.values(), items])
        dist.all_reduce(reduced)
        means = {name: float(total / reduced[-1]) for name, total in zip(sums, reduced[:-1], strict=True)}
        return {"loss": means["loss"], **self.objective.derived(means["loss"]), **means}
