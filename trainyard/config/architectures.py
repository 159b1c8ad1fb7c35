"""The architectures of the installed transformers and the names in their code, read without importing it.

Importing transformers takes a second and more, and the controller must answer a mistake at once.
"""

import functools
import re
from pathlib import Path

from trainyard.machine.installed import folder


@functools.cache
def _folder(model_type: str) -> Path | None:
    """The folder with an architecture's code; None where transformers has none of this name."""
    package = folder("transformers")
    if package is None:
        return None
    names = dict(_mapped(package))
    found = package / "models" / names.get(model_type, model_type.replace("-", "_"))
    return found if found.is_dir() else None


def _mapped(package: Path) -> list[tuple[str, str]]:
    """Types whose folder has another name, from transformers' own table."""
    found: list[tuple[str, str]] = []
    for name in ("auto_mappings.py", "configuration_auto.py"):
        file = package / "models" / "auto" / name
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        table = text.partition("\nSPECIAL_MODEL_TYPE_TO_MODULE_NAME")[2].partition("\n)")[0]
        found += re.findall(r'"([\w-]+)"(?:,|:) "([\w-]+)"', table)
    return found


def is_known(model_type: str) -> bool:
    """Has transformers this architecture? True where transformers is not installed: the launch says so."""
    return folder("transformers") is None or _folder(model_type) is not None


def sources(model_type: str) -> list[Path]:
    """The files of an architecture's code; empty where it is not known."""
    found = _folder(model_type)
    return sorted(found.glob("*.py")) if found else []


@functools.cache
def layers(model_type: str) -> frozenset[str]:
    """The names under which an architecture's code keeps its layers, as q_proj; empty where it is not known."""
    files = [file for file in sources(model_type) if file.name.startswith("modeling_")]
    return frozenset(name for file in files for name in re.findall(r"self\.(\w+) = ", file.read_text(encoding="utf-8")))
