"""Values that the user did not give, each with its origin, as a run shows them when it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.config.defaults import default_options, option_values, own_defaults, own_keys
from trainyard.config.overrides import key_of
from trainyard.config.schema import Config

SHOWN_GROUPS = ("model", "data", "trainer", "deepspeed", "peft")
"""Groups whose default decides what is trained."""

WIDEST = 44
"""Columns up to which the reasons are aligned; a longer value pushes its own reason to the right."""


@dataclass(frozen=True)
class FilledIn:
    """A value that was derived, or that is a default of conf/."""

    key: str
    value: Any
    reason: str
    """Where it comes from, to be put in brackets."""

    @property
    def setting(self) -> str:
        """`trainer.bf16=true`, as an override that gives it would be."""
        return f"{self.key}={str(self.value).lower() if isinstance(self.value, bool) else self.value}"


def lines(values: Sequence[FilledIn]) -> list[str]:
    """A line for each value, the reasons below each other: `filled in: trainer.bf16=true  (H100 ...)`."""
    width = max((len(each.setting) for each in values if len(each.setting) <= WIDEST), default=0)
    return [f"filled in: {each.setting:{width}}  ({each.reason})" for each in values]


def default_choices(config: Config, overrides: Sequence[str]) -> Iterator[FilledIn]:
    """What conf/ chooses, as neither an override nor a recipe does: options of groups and, for a model or data of the
    user's own, each value of conf/*/own_<stage>.yaml.

    A group is shown although the user sets some trainer or data settings: the default still decides the others.
    """
    keys = [key_of(override) for override in overrides]
    if "experiment" in keys:
        return
    own = dict(item.split("=") for item in own_defaults(config.stage, overrides))
    named = " and ".join(own_keys(config.stage, overrides))
    for group, option in default_options(config.stage).items():
        if group not in SHOWN_GROUPS or option == "none" or group in keys:
            continue
        if group in own:
            yield from _values_of(config, group, own[group], named, keys)
        elif group in ("data", "trainer") or not any(key.startswith(f"{group}.") for key in keys):
            yield FilledIn(group, option, f"default of conf/{config.stage}.yaml")


def _values_of(config: Config, group: str, option: str, named: str, keys: Sequence[str]) -> Iterator[FilledIn]:
    """Each value that a file for a user's own model or data gives, without those that an override or another file
    gives, and without those that are left to be derived.
    """
    section = getattr(config, group)
    for key, value in option_values(group, option).items():
        if value is not None and key not in keys and getattr(section, key.partition(".")[2]) == value:
            yield FilledIn(key, value, f"conf/{group}/{option}.yaml, as {named} is given")
