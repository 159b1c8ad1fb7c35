"""What is wrong with one override, in a sentence with the value, the rule and the fix."""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from trainyard.config import quotes
from trainyard.config.defaults import default_options
from trainyard.config.hydra import CONF_DIR, group_options, groups, is_readable, reason, schema
from trainyard.config.overrides import is_open, key_of
from trainyard.config.schema import SourceConfig
from trainyard.config.secrets import masked
from trainyard.config.training_arguments import MANAGED

_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def names_a_group(key: str) -> bool:
    """Does a key name a folder of conf/, so that its value chooses a file?"""
    return key != "" and (CONF_DIR / key).is_dir()


def unknown(stage: str, override: str) -> str:
    """The message for an override of a setting that does not exist; empty when it exists or is one of Hydra's own."""
    key = key_of(override)
    if names_a_group(key) or re.match(r"hydra[./]", key) or "=" not in override:
        return ""
    shown = masked(override)
    if key.startswith("trainer.") and key.removeprefix("trainer.") in MANAGED:
        return f"{shown}: trainyard sets this itself; {MANAGED[key.removeprefix('trainer.')]}"
    return "" if _exists(stage, key) else f"{shown}: {no_setting(stage, key)}"


def no_setting(stage: str, name: str) -> str:
    """`there is no setting data.blok_size. Did you mean data.block_size?`"""
    return f"there is no setting {name}.{_nearest(name, _known(stage), show=3)}"


def unreadable(override: str, *, several: bool = False) -> str:
    """The message for an override that Hydra's parser does not take; empty when it does.

    Args:
        several: the command is a sweep, in which a comma divides values.
    """
    shown, (_, equals, value) = masked(override), override.partition("=")
    if not equals or is_readable(override):
        return ""
    if "***" in shown:
        return f"{shown}: text with marks other than _-/+.$%*@?|: needs quotes inside the shell's quotes"
    mended = quotes.with_quotes(override, is_readable, several=several)
    if not quotes.is_balanced(value):
        text = f"; if it is text, write {quotes.for_shell(mended)}" if mended else ""
        return f"{shown}: a bracket or a quote is not closed{text}"
    if mended:
        return f"{shown}: Hydra reads such text in quotes only; write {quotes.for_shell(mended)}"
    return f"{shown}: must be text, a list as [a, b] or a mapping as {{key: value}}; text with other marks in quotes"


def explain(stage: str, override: str, error: Exception, beside: Sequence[str] = ()) -> str:
    """The message for an override of a setting that exists, given Hydra's error.

    Args:
        beside: further overrides of the command, one of which may name a folder of recipes.
    """
    if message := unreadable(override):
        return message
    key, (_, equals, value), sign = key_of(override), override.partition("="), override[: -len(override.lstrip("+~"))]
    shown, why = masked(override), reason(error)
    if names_a_group(key):
        return f"{shown}: {_choice(stage, sign, key, value, beside, why)}"
    if sign == "~":
        return f"{shown}: a setting has a value always; give it another one by {key}=..., or null where it may be unset"
    if not equals:
        return f"{shown}: overrides have the form key=value"
    if "Ambiguous value" in why or ("," in value and not value.startswith(("[", "{", "'", '"')) and "onvert" in why):
        text = quotes.with_quotes(override, is_readable, several=False)
        return f"{shown}: several values need -m" + (f"; for text write {quotes.for_shell(text)}" if text else "")
    if sign == "+" and "already" in why:
        return f"{shown}: the setting has a value already; leave out the +"
    if wanted := re.search(r"could not be converted to (\w+)", why):
        return f"{shown}: must be {_KINDS.get(wanted[1], wanted[1])}, got {value!r}"
    if key == "data.sources" and (wrong := re.search(r"Key '(.+)' not in 'SourceConfig'", why)):
        return f"{shown}: a source has no {wrong[1]}.{_nearest(wrong[1], _names(SourceConfig))}"
    if key == "data.sources":
        return f"{shown}: must be a list of sources, as [{{path: corpus.jsonl, format: jsonl}}]"
    if "is not a ListConfig" in why:
        return f"{shown}: must be a list, as {key}=[{value}]"
    return f"{shown}: {why}"


def _choice(stage: str, sign: str, group: str, value: str, beside: Sequence[str], why: str) -> str:
    """What is wrong with the choice of a group's file."""
    options = group_options(group, beside)
    chosen = default_options(stage).get(group)
    if sign == "~":
        return f"the command chooses {f'{group}={chosen}' if chosen else 'no file of the group'}; leave it out"
    if sign and value in options:
        return f"the command has a file of this group already; write {group}={value}"
    if value.startswith(("[", "{")):
        return f"a group takes the name of a file; give its settings one by one, as {group}.name=value"
    if value in ("", "null"):
        return f"name a file of conf/{group}, or leave it out. There are: {', '.join(options)}"
    if "," in value and all(each in options for each in value.split(",")):
        return "several values need -m"
    if value in options:  # the file is there, and what it says is wrong
        return why
    return f"there is no conf/{group}/{value}.yaml.{_nearest(value, options)}"


def _exists(stage: str, key: str) -> bool:
    """Is there such a setting? An entry of a list is named by its number, as data.sources.0.path."""
    name = re.sub(r"\.\d+(?=\.|\Z)", "", key)
    entries = [f"data.sources.{entry}" for entry in _names(SourceConfig)]
    return name in _known(stage) or name in entries or is_open(name)


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _known(stage: str) -> list[str]:
    return [*_dotted(dataclasses.asdict(schema(stage))), *groups()]


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of all settings and sections: run, run.name, run.seed ..."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def _nearest(name: str, known: Sequence[str], show: int = 50) -> str:
    """` Did you mean X?`; without a similar name the known ones if they are at most `show`, else a hint at --help.

    A name is similar as a whole or by its last part: learning_rate is near to trainer.learning_rate.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        leaves = {key.rpartition(".")[2]: key for key in known}
        leaf = name.rpartition(".")[2]
        near = [leaves[found] for found in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)]
    if near:
        return f" Did you mean {near[0]}?"
    return f" There are: {', '.join(known)}" if len(known) <= show else " --help lists the settings"
