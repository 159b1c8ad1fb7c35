"""Overrides as users type them: what they imply, how a value is spelled, and the run's name that follows from them."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

import xxhash

from trainyard.config.quotes import with_home
from trainyard.config.secrets import masked
from trainyard.config.stages import STAGES

OPEN = (
    "model.config", "data.template_variables", "sweep.params", "trainer.lr_scheduler_kwargs",
    "trainer.gradient_checkpointing_kwargs", "trainer.activation_checkpointing_kwargs", "trainer.liger_kernel_config",
)  # fmt: skip
"""Settings that take any key below their own."""

_WORDS = ("true", "false", "null", "nan", "inf")
"""Words that Hydra does not read as text unless they are quoted."""


def with_implied(overrides: Sequence[str]) -> list[str]:
    """The overrides in Hydra's grammar, with those that they imply. Applied twice, it changes nothing more.

    - `model.path=X` alone means that model, not the default group's architecture with the weights of X.
    - `trainer.num_train_epochs=N` alone means N epochs, whatever max_steps a group has.
    - A key under OPEN needs no `++`, which Hydra wants before a key that the file does not have.
    - `~/x` is a path in the home directory.
    """
    overrides = list(map(with_home, overrides))
    result = ["++" + item if re.match(rf"({'|'.join(map(re.escape, OPEN))})[.=]", item) else item for item in overrides]
    keys = {key_of(override) for override in overrides}
    if "model.path" in keys and not keys & {"model", "experiment"}:
        result.insert(0, "model=from_path")
    if "trainer.num_train_epochs" in keys and "trainer.max_steps" not in keys:
        result.append("trainer.max_steps=-1")
    return result


def key_of(override: str) -> str:
    """The setting that an override is about: `++model.config.rope_theta=1` is about model.config.rope_theta."""
    return override.split("=", 1)[0].lstrip("+~")


def is_open(name: str) -> bool:
    """Does a setting lie below one of OPEN?"""
    return name.startswith(tuple(f"{each}." for each in OPEN))


def command(stage: str, overrides: Sequence[str]) -> str:
    """The command line of a run, ready for a shell; secrets are masked."""
    return shlex.join([*STAGES[stage].words, *map(masked, overrides)])


def default_name(overrides: Sequence[str]) -> str:
    """The name of a run that was given none, so that the same command finds the same run again.

    It is `default` or the experiment's name, and then the name in debug=. A short digest follows if other overrides
    shape the run. Their order does not matter. Settings that only say where and on which devices it runs, how it is
    watched, and where its recipe lies, are left out of the digest.
    """
    values = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    base = values.pop("experiment", "default")
    if debug := values.pop("debug", ""):
        base += f"-{debug}"
    shaping = sorted(
        f"{key}={value}"
        for key, value in values.items()
        if not re.match(r"(launch|tracking|paths|run|hydra)([./]|$)", key) or key == "run.seed"
    )
    return f"{base}-{xxhash.xxh3_64_hexdigest(' '.join(shaping).encode())[:6]}" if shaping else base


def spelled(value: Any) -> str:
    """A value in the grammar of Hydra's overrides. Entries of a mapping that are None are left out."""
    if isinstance(value, dict):
        items = [f"{key}: {spelled(item)}" for key, item in value.items() if item is not None]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[A-Za-z/][\w./-]*", value, re.ASCII) and value.lower() not in _WORDS:
        return value
    # in quotes a backslash stands for itself, except before a quote, where each backslash is doubled
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), value) + "'"
