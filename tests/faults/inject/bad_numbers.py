"""Faults in the numbers of a step, put in below the project's code: into the loss that the model computes, into the
weights, and into torch's optimizer.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from injection import Patch, change_loss, due, follow, happens, is_rank


def not_a_number(loss: Any) -> Any:
    """The gradient stays finite: only the loss shows the fault."""
    return loss + float("nan")


def infinite_gradient(loss: Any) -> Any:
    """The loss keeps its value."""
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
    """The loss times 1,000."""
    return loss * 1e3


LOSSES = {"nan-loss": not_a_number, "inf-gradient": infinite_gradient, "spike": spike, "bad-batch": spike}

KINDS = (*LOSSES, "idle-optimizer", "nan-weights")


def patch(kind: str, rank: int, steps: str) -> Patch:
    """The change of trainyard.training.trainer that brings a fault about, once that module is imported.

    idle-optimizer: AdamW does nothing in these steps, on any rank. nan-weights: a weight of the rank becomes NaN after
    the first of these steps. bad-batch: the batches of the rank in these steps spike each time that they are seen.
    """
    first, _, last = steps.partition("-")
    wanted = range(int(first), int(last or first) + 1)

    def change(loss: Any, input_ids: Any) -> Any:
        strikes = due(rank, wanted) and happens(kind)
        if kind == "bad-batch":
            batch = str(input_ids.tolist()) + "\n"
            with Path(os.environ["FAULT_BATCHES"]).open("a+") as stream:
                if strikes:
                    stream.write(batch)
                stream.seek(0)
                strikes = batch in stream.readlines()
        return LOSSES[kind](loss) if strikes else loss

    def bad_loss(module: ModuleType) -> None:
        follow(module)
        change_loss(change)

    def idle(module: ModuleType) -> None:
        import torch

        follow(module)
        update = torch.optim.AdamW.step

        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            every = int(os.environ["RANK"])
            return None if due(every, wanted) and happens(kind) else update(self, *args, **kwargs)

        torch.optim.AdamW.step = step

    def corrupt(module: ModuleType) -> None:
        original = module.Trainer._maybe_log_save_evaluate

        def log_save_evaluate(self: Any, *args: Any, **kwargs: Any) -> None:
            if is_rank(rank) and self.state.global_step == wanted[0] and happens(kind):
                parameter = next(self.model.parameters())
                getattr(parameter, "ds_tensor", parameter).data.view(-1)[0] = float("nan")
            original(self, *args, **kwargs)

        module.Trainer._maybe_log_save_evaluate = log_save_evaluate

    return {"idle-optimizer": idle, "nan-weights": corrupt}.get(kind, bad_loss)
