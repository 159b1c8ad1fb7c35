"""Misspelled attributes in model.config, which transformers keeps without using them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.config import architectures
from trainyard.config.schema import ModelConfig
from trainyard.errors import did_you_mean
from trainyard.machine import installed

COMMON = ("configuration_utils.py", "modeling_utils.py", "modeling_rope_utils.py", "masking_utils.py")
"""Sources of transformers that read attributes of every model's config."""


def model_config_problems(model: ModelConfig, base: Mapping[str, Any]) -> Iterator[str]:
    """A message for each key of model.config that no source of the architecture mentions.

    Args:
        base: the config.json of model.path; empty without one. What it has is known.
    """
    if not model.config or model.trust_remote_code:
        return
    kind, package = str(base.get("model_type") or model.model_type), installed.folder("transformers")
    own = architectures.sources(kind)
    if package is None or not own:  # an unknown architecture is reported as such
        return
    files = [*own, *(package / name for name in COMMON)]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    fields = [name for text in texts for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)]
    for key in model.config.keys() - words - base.keys():
        hint = did_you_mean(key, fields, "Leave it out", cutoff=0.7)
        yield f"model.config.{key}={model.config[key]}: a {kind} has no such attribute. {hint}"
