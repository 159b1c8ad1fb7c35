"""What conf/ chooses for a command: the options of groups without overrides, and other ones for a user's own model or
data, which must get no value of the example's.
"""

import functools
from collections.abc import Sequence
from typing import Any

import yaml

from trainyard import SHIPPED
from trainyard.config.overrides import key_of

OWN = "own_{stage}"
"""The option of `trainer` and of `data` for a model or data of the user's own, in every stage."""


@functools.cache
def default_options(stage: str) -> dict[str, str]:
    """The option of each group, as the defaults list of conf/<stage>.yaml chooses it, without groups left open."""
    entries = yaml.safe_load((SHIPPED / "conf" / f"{stage}.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = [item for entry in entries if isinstance(entry, dict) for item in entry.items()]
    return {group: option for group, option in chosen if option and not group.startswith("override ")}


def own_defaults(stage: str, overrides: Sequence[str]) -> list[str]:
    """Overrides to stand before those of a command with a model or data of the user's own; empty for any other command.

    A model or data is the user's own if `model.path` or `data.sources` gives it, or if another option of the group is
    chosen than the example's. A recipe of conf/experiment/ chooses everything itself. The overrides are no part of
    run.name: a command of an earlier version finds its run.
    """
    keys = {key_of(override) for override in overrides}
    if "experiment" in keys or not own_keys(stage, overrides):
        return []
    option = OWN.format(stage=stage)
    result = [] if "trainer" in keys else [f"trainer={option}"]
    if "data" not in keys and "data.sources" in keys:
        result.append(f"data={option}")
    elif "data" not in keys:  # the example's text, read by a model of the user's own
        result.append("data.block_size=null")
    return result


def own_keys(stage: str, overrides: Sequence[str]) -> list[str]:
    """The settings by which a command names a model or data of the user's own."""
    example = default_options(stage)
    values = {key_of(override): override.partition("=")[2] for override in overrides}
    given: list[str] = [key for key in ("model.path", "data.sources") if key in values and values[key] != "null"]
    given += [group for group in ("model", "data") if values.get(group, example[group]) != example[group]]
    return [key for key in given if key != "model" or "model.path" not in given]


@functools.cache
def option_values(group: str, option: str) -> dict[str, Any]:
    """The settings that a file of conf/ gives, by their names: `{"trainer.weight_decay": 0.1}`."""
    values = yaml.safe_load((SHIPPED / "conf" / group / f"{option}.yaml").read_text(encoding="utf-8"))
    return {f"{group}.{key}": value for key, value in values.items()}
