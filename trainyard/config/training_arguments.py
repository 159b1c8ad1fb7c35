"""The names, types and choices of transformers.TrainingArguments, read from its source without importing it.

Importing transformers' Trainer takes seconds, and the controller must answer a typo in a fraction of a second. The
source that is read is the installed one, so the names are right for any version.
"""

import ast
import dataclasses
import functools
from typing import Any

from trainyard.config.schema import TrainerConfig
from trainyard.machine.installed import folder

OWN_FIELDS = (
    "global_batch_size",
    "early_stopping_patience",
    "early_stopping_threshold",
    "async_save",
    "max_bad_steps",
    "on_spike",
    "spike_deviations",
    "spike_window",
)
"""Fields of TrainerConfig that are trainyard's own, not TrainingArguments."""

MANAGED = {
    "output_dir": "set paths.outputs and run.name",
    "run_name": "set run.name",
    "seed": "set run.seed",
    "data_seed": "set run.seed",
    "deepspeed": "set deepspeed=<name> or deepspeed.config",
    "fsdp": "training runs under DeepSpeed; set deepspeed=zero3",
    "fsdp_config": "training runs under DeepSpeed; set deepspeed=zero3",
    "use_cpu": "the CPU is used where there is no GPU; hide GPUs with CUDA_VISIBLE_DEVICES=",
    "resume_from_checkpoint": "set run.resume",
    "ignore_data_skip": "the data position is part of a checkpoint",
    "report_to": "set tracking=swanlab or tracking=none",
    "project": "set tracking.project",
    "hub_token": "set HF_TOKEN in the environment, so that it is written nowhere",
    "local_rank": "the launcher sets it",
    "ddp_timeout": "set launch.timeout_s",
    "disable_tqdm": "the controller draws the progress bar",
    "remove_unused_columns": "the data layer yields what the model needs",
    "enable_jit_checkpoint": "stop signals are handled by trainyard; see launch.grace_period_s",
    "auto_find_batch_size": "it would change the global batch; set trainer.per_device_train_batch_size",
    "accelerator_config": "the data layer splits the batches",
    "train_sampling_strategy": "the data layer orders the samples",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed; the model is saved at the end",
    "ddp_backend": "NCCL is used on GPUs and gloo on CPUs",
    "logging_nan_inf_filter": "a NaN must be seen",
    "restore_callback_states_from_checkpoint": "a resumed run always goes on with its patience",
    "greater_is_better": "the metrics are losses, the smaller the better",
    "use_cache": "a cache is of no use in training, and documents in one sequence would attend to each other",
    "parallelism_config": "there is data parallelism and ZeRO; set deepspeed=zero3 for a model that does not fit",
    "push_to_hub": "a run pushes nothing; upload its model/ when it has finished: hf upload",
    "hub_model_id": "a run pushes nothing to the hub",
    "hub_strategy": "a run pushes nothing to the hub",
    "hub_private_repo": "a run pushes nothing to the hub",
    "hub_always_push": "a run pushes nothing to the hub",
    "hub_revision": "a run pushes nothing to the hub",
    "trackio_space_id": "set tracking=swanlab or tracking=none",
    "trackio_bucket_id": "set tracking=swanlab or tracking=none",
    "trackio_static_space_id": "set tracking=swanlab or tracking=none",
    "length_column_name": "the data layer knows the lengths",
    "do_train": "it has no effect",
    "do_eval": "set data.eval_fraction",
    "do_predict": "it has no effect",
}
"""TrainingArguments that trainyard sets itself, each with the setting to use instead, or the reason."""

_PRIMITIVES = {"int": int, "float": float, "bool": bool, "str": str}


@dataclasses.dataclass(frozen=True)
class Argument:
    """A field of TrainingArguments."""

    name: str
    type: Any
    """int, float, bool, str, or Any for every other type."""
    choices: tuple[str, ...] = ()
    """The legal strings of an enum; empty for any other type."""


@functools.cache
def argument_fields() -> dict[str, Argument]:
    """Every field of the installed transformers.TrainingArguments, by name. The source is parsed once per process.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    package = folder("transformers")
    if package is None:
        raise ModuleNotFoundError("transformers is not installed; run: bash launch/env.sh, or pip install trainyard")
    enums: dict[str, tuple[str, ...]] = {}
    fields: list[ast.AnnAssign] = []
    for file in ("trainer_utils.py", "training_args.py"):
        for node in ast.parse((package / file).read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            if any(ast.unparse(base) == "ExplicitEnum" for base in node.bases):
                enums[node.name] = _enum_values(node)
            elif node.name == "TrainingArguments":
                fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    arguments = (_argument(item, enums) for item in fields)
    return {argument.name: argument for argument in arguments}


def _enum_values(node: ast.ClassDef) -> tuple[str, ...]:
    assigned = (item.value for item in node.body if isinstance(item, ast.Assign))
    return tuple(value.value for value in assigned if isinstance(value, ast.Constant) and isinstance(value.value, str))


def _argument(item: ast.AnnAssign, enums: dict[str, tuple[str, ...]]) -> Argument:
    """`learning_rate: float` -> float; `eval_steps: float | None` -> float; `debug: str | list[...]` -> Any."""
    assert isinstance(item.target, ast.Name)
    parts = {part.strip() for part in ast.unparse(item.annotation).split("|")} - {"None"}
    named = [part for part in parts if part in enums]
    if named:
        return Argument(item.target.id, str, enums[named[0]])
    types = [_PRIMITIVES.get(part, Any) for part in parts]
    return Argument(item.target.id, types[0] if len(types) == 1 else Any)


@functools.cache
def trainer_schema() -> type[TrainerConfig]:
    """TrainerConfig with one more optional field for each name of TrainingArguments that a user may set."""
    declared = {field.name for field in dataclasses.fields(TrainerConfig)}
    extra = [
        (argument.name, argument.type | None if argument.type is not Any else Any, dataclasses.field(default=None))
        for argument in argument_fields().values()
        if argument.name not in declared and argument.name not in MANAGED
    ]
    return dataclasses.make_dataclass("TrainerSettings", extra, bases=(TrainerConfig,), kw_only=True)


def given_arguments(trainer: TrainerConfig) -> dict[str, Any]:
    """The settings to pass to TrainingArguments: the fields that are its own and are not None."""
    values = {field.name: getattr(trainer, field.name) for field in dataclasses.fields(trainer)}
    return {name: value for name, value in values.items() if value is not None and name not in OWN_FIELDS}


def choice_problems(trainer: TrainerConfig) -> list[str]:
    """A message for each value that is not a choice of its argument, as `stepz` for trainer.eval_strategy."""
    problems = []
    for name, value in given_arguments(trainer).items():
        choices = argument_fields()[name].choices
        if choices and value not in choices:
            problems.append(f"trainer.{name}={value}: must be one of {', '.join(choices)}")
    return problems
