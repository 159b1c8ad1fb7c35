"""The generation config that a base model brings, mended where transformers would refuse to load or to save it."""

import json
import re
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import cached_file

from trainyard.files import first_line

FILE = "generation_config.json"

SAMPLING = {
    "temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "top_h": None, "typical_p": 1.0,
    "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
}  # fmt: skip
"""Settings that mean something with do_sample=true alone, each with the value that has no effect."""

_REFUSED = (ValueError, TypeError, AttributeError)


def load(path: str) -> tuple[GenerationConfig | None, list[str]]:
    """The generation config of a model's directory or hub id with what of it transformers takes, and a sentence for
    each setting that is left out. None where all of it can be loaded, or where there is none.
    """
    try:
        GenerationConfig.from_pretrained(path)
    except OSError:
        return None, []
    except _REFUSED:
        file = cached_file(path, FILE, _raise_exceptions_for_missing_entries=False)
        if file is None:
            return None, []
    else:
        return None, []
    try:
        values: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        return GenerationConfig(), [f"{FILE} of {path} is left out: {first_line(error)}"]
    kept: dict[str, Any] = {}
    notes = []
    for name in sorted(values, key=lambda name: name == "num_return_sequences"):  # this depends on others
        try:
            GenerationConfig(**kept, **{name: values[name]})
            kept[name] = values[name]
        except _REFUSED as error:
            notes.append(f"{FILE}: {name}={values[name]} of the base is left out: {first_line(error)}")
    return GenerationConfig(**kept), notes


def mend(config: GenerationConfig) -> list[str]:
    """Makes the settings of a generation config agree, in place, so that transformers saves it.

    Settings for sampling switch it on, unless a temperature of 0 says that nothing is to be sampled. Any other setting
    that is refused is taken back to its default.

    Returns:
        A sentence for each change.
    """
    sampling = {name: getattr(config, name, None) for name in SAMPLING}
    sampling = {name: value for name, value in sampling.items() if value is not None and value != SAMPLING[name]}
    notes = []
    if float(sampling.get("temperature") or 0.0 if "temperature" in sampling else 1.0) <= 0:
        for name in sampling:
            setattr(config, name, SAMPLING[name])
        config.do_sample = False
        notes.append(f"{_told(sampling)} of the base left out and do_sample=false: a temperature of 0 samples nothing")
    elif sampling and config.do_sample is not True:
        config.do_sample = True
        notes.append(f"do_sample=true set beside {_told(sampling)} of the base, which mean nothing without it")
    for _ in range(20):
        try:
            config.validate(strict=True)
        except _REFUSED as error:
            notes += _reset(config, str(error))
        else:
            break
    return [f"{FILE}: {note}" for note in notes]


def _reset(config: GenerationConfig, message: str) -> list[str]:
    """Takes back the settings that a message names, or every setting but token ids if it names none."""
    default = GenerationConfig()
    changed = [name for name in vars(default) if getattr(config, name, None) != getattr(default, name)]
    changed = [name for name in changed if not name.startswith("_") and name != "transformers_version"]
    named = [name for name in dict.fromkeys(re.findall(r"`(\w+)`", message)) if name in changed]
    named = named or [name for name in changed if not name.endswith("_token_id")]
    values = {name: getattr(config, name) for name in named}
    for name in named:
        setattr(config, name, getattr(default, name))
    return [f"{name}={value} of the base left out: transformers would not save it" for name, value in values.items()]


def _told(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
