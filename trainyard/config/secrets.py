"""trainyard.config.secrets."""

import re
from typing import Any

_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password)$", re.IGNORECASE)


def masked(override: str) -> str:
    """An override whose value is `***` if its key names a secret, or any key inside its value does."""
    key, _, value = override.partition("=")
    names = [key.lstrip("+~").rpartition(".")[2], *re.findall(r"(\w+)['\"]?\s*[:=]", value)]
    return f"{key}=***" if value and any(map(_SECRET.search, names)) else override


def redact(value: Any) -> Any:
    """A copy in which every non-empty string under a key such as api_key, hub_token or password is `***`."""
    if isinstance(value, dict):
        return {
            key: "***" if item and isinstance(item, str) and _SECRET.search(str(key)) else redact(item)
            for key, item in value.items()
        }
    return [redact(item) for item in value] if isinstance(value, list) else value
