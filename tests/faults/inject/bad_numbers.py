"""Faults in what a step computes. They lie under what the project adds to the Trainer: the library's own loss goes bad,
and torch's own optimizer does nothing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def not_a_number(loss: Any) -> Any:
    """The gradient stays finite: nothing but the loss tells."""
    return loss + float("nan")


def infinite_gradient(loss: Any) -> Any:
    """The loss stays what it is."""
    import torch

    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * float("inf")

    return Explode.apply(loss)


def spike(loss: Any) -> Any:
    return loss * 1e3


FAULTS: dict[str, Any] = {
    "nan-loss": not_a_number,
    "inf-gradient": infinite_gradient,
    "spike": spike,
    "bad-batch": spike,
    "idle-optimizer": None,
    "nan-weights": None,
}


def patch(kind: str, rank: int, steps: str, happens: Callable[[], bool]) -> Callable[[ModuleType], None]:
    """What to do with trainyard.training.trainer once it is imported.

    idle-optimizer: AdamW does nothing in these steps, on any rank. nan-weights: a weight of a rank becomes NaN once the
    first of these steps is done. bad-batch: what a rank sees in these steps spikes whenever it is seen again.
    """
    first, _, last = steps.partition("-")
    wanted = range(int(first), int(last or first) + 1)

    def change_loss(module: ModuleType) -> None:
        inner = module.transformers.Trainer.compute_loss
        seen = Path(os.environ.get("FAULT_BATCHES", "/dev/null"))

        def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = inner(self, model, inputs, *args, **kwargs)
            due = self.split.rank == rank and self.state.global_step in wanted and happens()
            if kind == "bad-batch":
                batch = str(inputs["input_ids"].tolist()) + "\n"
                with seen.open("a+") as stream:
                    if due:
                        stream.write(batch)
                    stream.seek(0)
                    due = batch in stream.readlines()
            return FAULTS[kind](loss) if due else loss

        module.transformers.Trainer.compute_loss = compute_loss

    def idle(module: ModuleType) -> None:
        import torch

        step, inner = torch.optim.AdamW.step, module.transformers.Trainer.compute_loss
        now = []

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            now[:] = [self.state.global_step]
            return inner(self, *args, **kwargs)

        module.transformers.Trainer.compute_loss = compute_loss
        torch.optim.AdamW.step = lambda self, *args, **kwargs: None if now[0] in wanted else step(self, *args, **kwargs)

    def corrupt(module: ModuleType) -> None:
        inner = module.Trainer._maybe_log_save_evaluate

        def log_save_evaluate(self: Any, *args: Any, **kwargs: Any) -> None:
            if self.split.rank == rank and self.state.global_step == wanted[0] and happens():
                parameter = next(self.model.parameters())
                getattr(parameter, "ds_tensor", parameter).data.view(-1)[0] = float("nan")
            inner(self, *args, **kwargs)

        module.Trainer._maybe_log_save_evaluate = log_save_evaluate

    return {"idle-optimizer": idle, "nan-weights": corrupt}.get(kind, change_loss)
