"""trainyard.config.overrides."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

import xxhash

from trainyard.config.secrets import masked
from trainyard.config.stages import STAGES


def with_implied(overrides: Sequence[str]) -> list[str]:
    """What users mean, in Hydra's grammar.

    `model.path=X` alone means that model, not the default group's architecture with X's weights. Epochs alone mean
    epochs, whatever steps a group has. Any key may be set under those of OPEN, where Hydra asks for ++ before a key
    that the file does not have. What has been through here once is left as it is.
    """
    result = ["++" + item if re.match(rf"({'|'.join(map(re.escape, OPEN))})[.=]", item) else item for item in overrides]
    keys = {key_of(override) for override in overrides}
    if "model.path" in keys and not keys & {"model", "experiment"}:
        result.insert(0, "model=from_path")
    if "trainer.num_train_epochs" in keys and "trainer.max_steps" not in keys:
        result.append("trainer.max_steps=-1")
    return result


def key_of(override: str) -> str:
    """The setting that an override is about."""
    return override.split("=", 1)[0].lstrip("+~")


OPEN = ("model.config", "data.template_variables")
"""Settings that take any key."""


def is_open(name: str) -> bool:
    """Does a setting lie under one that takes any key?"""
    return name.startswith(tuple(f"{each}." for each in OPEN))


def command(stage: str, overrides: Sequence[str]) -> str:
    """The command line of a run, to be pasted into a shell; secrets are masked."""
    return shlex.join([*STAGES[stage].words, *map(masked, overrides)])


def default_name(overrides: Sequence[str]) -> str:
    """`default` or the experiment's name; with other overrides that shape the run, a short digest of them after it.

    The order of the overrides does not matter, nor do those that say where and on what it runs.
    """
    values = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    base = values.pop("experiment", "default")
    shaping = sorted(
        f"{key}={value}"
        for key, value in values.items()
        if not re.match(r"(launch|tracking|paths|run)(\.|$)", key) or key == "run.seed"
    )
    return f"{base}-{xxhash.xxh3_64_hexdigest(' '.join(shaping).encode())[:6]}" if shaping else base


WORDS = ("true", "false", "null", "nan", "inf")
"""What Hydra takes for something else than text."""


def spelled(value: Any) -> str:
    """A value in the grammar of Hydra's overrides; entries of a mapping that are not set are left out."""
    if isinstance(value, dict):
        items = [f"{key}: {spelled(item)}" for key, item in value.items() if item is not None]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[A-Za-z/][\w./-]*", value, re.ASCII) and value.lower() not in WORDS:
        return value
    # backslashes stand for themselves, but before a quote each is doubled
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), value) + "'"
