"""The options of groups that a command without overrides gets: `model: llama_tiny` in conf/pretrain.yaml, and so on."""

import functools

import yaml

from trainyard import SHIPPED


@functools.cache
def default_options(stage: str) -> dict[str, str]:
    """The option of each group, as the defaults list of conf/<stage>.yaml chooses it, without groups left open."""
    entries = yaml.safe_load((SHIPPED / "conf" / f"{stage}.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = [item for entry in entries if isinstance(entry, dict) for item in entry.items()]
    return {group: option for group, option in chosen if option and not group.startswith("override ")}
