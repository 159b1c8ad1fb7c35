"""The settings of each lr_scheduler_type, read from transformers' source without importing it."""

import ast
import functools
import math
from collections.abc import Iterator
from typing import Any

from trainyard.config.schema import TrainerConfig
from trainyard.machine.installed import folder

GIVEN = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
"""Parameters of a schedule that the Trainer fills in."""

_PLATEAU = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
"""Parameters of torch.optim.lr_scheduler.ReduceLROnPlateau."""

WITHOUT = ("constant", "constant_with_warmup")
"""Schedules that transformers calls without lr_scheduler_kwargs, whatever they are."""

BY_METRIC = ("reduce_lr_on_plateau", "greedy")
"""Schedules that follow an evaluation's metric."""

_RAMPS = ("linear", "cosine", "1-sqrt")


@functools.cache
def parameters() -> dict[str, tuple[str, ...]]:
    """The names that trainer.lr_scheduler_kwargs may have, by lr_scheduler_type."""
    package = folder("transformers")
    assert package
    tree = ast.parse((package / "optimization.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    found: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Attribute) and isinstance(value, ast.Name) and value.id in functions:
                arguments = functions[value.id].args
                names = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
                found[key.attr.lower()] = tuple(name for name in names if name not in GIVEN)
    found["reduce_lr_on_plateau"] = _PLATEAU  # its function hands on whatever it gets
    found.pop("reduce_on_plateau", None)
    greedy = next(item for item in classes["GreedyLR"].body if isinstance(item, ast.FunctionDef))
    found["greedy"] = tuple(each.arg for each in greedy.args.args if each.arg not in ("self", *GIVEN))
    return found | dict.fromkeys(WITHOUT, ())


def problems(trainer: TrainerConfig) -> Iterator[str]:
    """A message for each setting of the schedule that is missing, unknown or outside its range."""
    name, given = trainer.lr_scheduler_type, vars(trainer).get("lr_scheduler_kwargs")
    where = f"trainer.lr_scheduler_kwargs={given}"
    if given is not None and not isinstance(given, dict):
        yield f"{where}: must be a mapping, as {{min_lr_rate: 0.1}}"
        return
    own = {key: value for key, value in (given or {}).items() if value is not None}
    if own and name in parameters():
        allowed = parameters()[name]
        for key in own.keys() - set(allowed):
            takes = f"{name} takes {', '.join(allowed)}" if allowed else f"{name} takes none"
            yield f"trainer.lr_scheduler_kwargs.{key}={own[key]}: {takes}; set trainer.lr_scheduler_kwargs=null or that"
    yield from _demands(name, own, trainer)
    for key, value in own.items():
        place = f"trainer.lr_scheduler_kwargs.{key}={value}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            if key in ("warmup_type", "decay_type") and value not in _RAMPS:
                yield f"{place}: must be one of {', '.join(_RAMPS)}"
        elif not math.isfinite(value) or value < 0:
            yield f"{place}: must be a finite number of at least 0"
        elif key in ("min_lr", "lr_end") and name != "greedy" and value > (peak := trainer.learning_rate or 0.0):
            yield f"{place}: the end of the schedule lies above trainer.learning_rate={peak:g}"
        elif key in ("min_lr_rate", "min_lr_ratio", "warmup_lr_rate") and value > 1:
            yield f"{place}: a share of trainer.learning_rate, from 0 to 1"


def _demands(name: str, own: dict[str, Any], trainer: TrainerConfig) -> Iterator[str]:
    """Messages for a schedule without the settings that it needs."""
    ends = own.keys() & {"min_lr", "min_lr_rate"}
    if name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr") and len(ends) != 1:
        found = f"both {' and '.join(sorted(ends))} are set" if ends else "needs its end"
        yield f"trainer.lr_scheduler_type={name}: {found}; as trainer.lr_scheduler_kwargs={{min_lr_rate: 0.1}}"
    if name == "warmup_stable_decay":
        decay = own.get("num_decay_steps")
        if decay is None:
            fix = "as trainer.lr_scheduler_kwargs={num_decay_steps: 100}"
            yield f"trainer.lr_scheduler_type={name}: needs the length of its last part in steps, {fix}"
        elif trainer.max_steps > 0 and isinstance(decay, int) and decay > trainer.max_steps:
            yield (
                f"trainer.lr_scheduler_kwargs.num_decay_steps={decay}: "
                f"must be at most trainer.max_steps={trainer.max_steps}"
            )
