"""How runs were started: the settings in which they differ, and the command that trains with the same settings."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainyard.config.defaults import default_options, own_defaults
from trainyard.config.overrides import key_of, spelled
from trainyard.config.secrets import MASK
from trainyard.config.stages import STAGES
from trainyard.runs.history import Run

BEGINNING = ("run.name", "run.sweep", "run.resume", "run.allow_changes", "sweep")
"""Starts of the names of settings that identify a run or say how it begins, and do not change what it computes."""

PLACE = (*BEGINNING, "stage", "paths.")
"""The same settings, and those that say where its files lie."""


class Changed(NamedTuple):
    """A setting that is not the default of the run's stage."""

    default: Any
    own: Any


class Again(NamedTuple):
    """A command that trains with the settings of a run, and the keys of the secret overrides that it lacks."""

    command: str
    secret: list[str]


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, by name: a value for each run, in the order of the runs."""
    told = [run.settings for run in runs if run.settings]  # during its preparation a run has none yet
    names = dict.fromkeys(name for settings in told for name in settings if not name.startswith(PLACE))
    found = {name: [run.settings.get(name) for run in runs] for name in names if _differs(name, told)}
    if any(name.startswith(("data.", "tokenizer.", "model.")) for name in found if name != "data.prepared"):
        found.pop("data.prepared", None)  # follows from them
    return found


def _differs(name: str, told: Sequence[dict[str, Any]]) -> bool:
    return any(settings.get(name) != told[0].get(name) for settings in told)


def changed(run: Run) -> dict[str, Changed]:
    """The settings of a run that are not the defaults of its stage, by name."""
    if not run.settings:
        return {}
    defaults = _defaults(run)
    passed_over = (*PLACE, "data.prepared", *(["tokenizer.path"] if _has_made_tokenizer(run) else []))
    pairs = {name: Changed(defaults.get(name), value) for name, value in run.settings.items()}
    pairs = {name: pair for name, pair in pairs.items() if not name.startswith(passed_over)}
    return {name: pair for name, pair in pairs.items() if pair.default != pair.own}


def _defaults(run: Run) -> dict[str, Any]:
    """The settings of the stage's command without overrides, on the same number of ranks."""
    from dataclasses import asdict

    from trainyard.checks.resolve import resolve
    from trainyard.config.compose import compose
    from trainyard.config.saved import flat
    from trainyard.machine.devices import Devices

    ranks, bf16 = run.settings.get("launch.num_devices") or 1, bool(run.settings.get("trainer.bf16"))
    config = compose(run.stage, [])
    config.paths.outputs = str(run.settings.get("paths.outputs"))
    resolve(config, [], Devices(kind="cpu", count=ranks, name="", bf16=bf16), {})
    return flat(asdict(config))


def _has_made_tokenizer(run: Run) -> bool:
    """Was the tokenizer trained on the run's text or taken from its model, rather than chosen?"""
    path, model = (run.settings.get(name) for name in ("tokenizer.path", "model.path"))
    made = Path(str(run.settings.get("paths.outputs"))) / "tokenizers"
    return path is not None and (path == model or Path(path).is_relative_to(made))


def swept(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings that a sweep varies, by name, with a value for each run.

    They are read from the overrides of the points' commands, or from the settings where no command was kept.
    """
    given = [dict(item.lstrip("+").partition("=")[::2] for item in overrides(run)) for run in runs]
    names = dict.fromkeys(name for each in given for name in each)
    found = {name: [each.get(name) for each in given] for name in names if len({each.get(name) for each in given}) > 1}
    if not found:
        return differing(runs)
    return {
        name: [run.settings.get(name, told) for run, told in zip(runs, values, strict=True)]
        for name, values in found.items()
    }


def overrides(run: Run) -> list[str]:
    """The overrides of the run's command that change what it computes."""
    words = shlex.split(run.status.command)[2:]
    devices = ("launch.num_devices=",) if run.sweep else ()  # a point's share of the sweep's devices
    return [word for word in words if not word.lstrip("+").startswith((*BEGINNING, *devices))]


def again(run: Run) -> Again:
    """The command that trains with the settings of a run, under another name.

    For a run that kept no command it is made of the settings that differ from the defaults.
    """
    words = overrides(run)
    if not run.status.command:
        words = [f"{name}={spelled(value)}" for name, (_, value) in changed(run).items()]
        groups = [key_of(item) for item in own_defaults(run.stage, words)]
        words = [f"{group}={option}" for group, option in default_options(run.stage).items() if group in groups] + words
    secret = [word for word in words if word.endswith(f"={MASK}")]
    told = [word for word in words if word not in secret]
    command = shlex.join([*STAGES[run.stage].words, *told])
    return Again(command, [word.partition("=")[0] for word in secret])


def shown(value: Any, longest: int = 60) -> str:
    """A value as the cell of a table: one line of at most `longest` characters."""
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else spelled(value)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
