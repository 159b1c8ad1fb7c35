"""Where installed packages lie, told without importing them: a command reads their source, and answers at once."""

import functools
import importlib.util
from pathlib import Path


@functools.cache
def folder(package: str) -> Path | None:
    """The directory of a package, whose name has no dot; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None
