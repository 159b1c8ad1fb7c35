"""Secrets among the settings: they are passed on, but never written down or shown."""

import re
from typing import Any

MASK = "***"
"""What stands for a secret in files and messages."""

_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password)$", re.IGNORECASE)


def redact(value: Any) -> Any:
    """A copy in which every non-empty string under a key such as api_key, hub_token or password is the mask."""
    if isinstance(value, dict):
        return {
            key: MASK if item and isinstance(item, str) and _SECRET.search(str(key)) else redact(item)
            for key, item in value.items()
        }
    return [redact(item) for item in value] if isinstance(value, list) else value


def masked(override: str) -> str:
    """An override, its value replaced by the mask if its key or any key inside the value names a secret."""
    key, _, value = override.partition("=")
    names = [key.lstrip("+~").rpartition(".")[2], *re.findall(r"(\w+)['\"]?\s*[:=]", value)]
    return f"{key}={MASK}" if value and any(map(_SECRET.search, names)) else override
