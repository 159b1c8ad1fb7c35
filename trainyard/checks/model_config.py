"""Misspelled attributes in model.config, which transformers keeps without using them."""

import difflib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainyard.config.schema import ModelConfig

COMMON = ("configuration_utils.py", "modeling_utils.py", "modeling_rope_utils.py", "masking_utils.py")
"""Sources of transformers that read attributes of every model's config."""


def model_config_problems(model: ModelConfig, base: Mapping[str, Any]) -> Iterator[str]:
    """A message for each key of model.config that no source of the architecture mentions.

    Args:
        base: the config.json of model.path; empty without one. What it has is known.
    """
    if not model.config or model.trust_remote_code:
        return
    kind = str(base.get("model_type") or model.model_type).replace("-", "_")
    spec = importlib.util.find_spec("transformers")
    package = Path(str(spec.origin)).parent if spec else Path()
    own = sorted((package / "models" / kind).glob("*.py"))
    if not own:  # an unknown architecture is reported as such
        return
    texts = [
        file.read_text(encoding="utf-8") for file in [*own, *(package / name for name in COMMON)] if file.is_file()
    ]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    fields = [name for text in texts for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)]
    for key in model.config.keys() - words - base.keys():
        near = difflib.get_close_matches(key, fields, n=1, cutoff=0.7)
        hint = f" Did you mean {near[0]}?" if near else " Leave it out"
        yield f"model.config.{key}={model.config[key]}: a {kind} has no such attribute.{hint}"
