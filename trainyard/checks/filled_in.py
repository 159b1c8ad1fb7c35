"""Values that the user did not give, each with its origin, as a run shows them when it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.config.defaults import default_options
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
    """Options of groups that come from conf/<stage>.yaml, as neither an override nor an experiment names the group.

    A group is shown although the user sets some trainer or data settings: the default still decides the others. Once
    the user replaces data.sources, only the default's data.block_size is shown.
    """
    keys = [key_of(override) for override in overrides]
    if "experiment" in keys:
        return
    origin = f"default of conf/{config.stage}.yaml"
    for group, option in default_options(config.stage).items():
        if group not in SHOWN_GROUPS or option == "none" or group in keys:
            continue
        given = [key for key in keys if key.startswith(f"{group}.")]
        if group == "data" and "data.sources" in given:
            if "data.block_size" not in given:
                yield FilledIn("data.block_size", config.data.block_size, f"of data={option}, the {origin}")
        elif group in ("data", "trainer") or not given:
            yield FilledIn(group, option, origin)
