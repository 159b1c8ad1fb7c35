"""The chat templates that come with a tokenizer: one or several with names, in any of the places where libraries put
them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard.files import read_json

FOLDER = "additional_chat_templates"
"""Beside chat_template.jinja: a file for each further template."""

DEFAULT, WITH_TOOLS = "default", "tool_use"
"""The names of the templates that transformers takes by itself, for conversations without tools and with tools."""

Templates = str | Mapping[str, str] | None
"""What a tokenizer has as its chat_template: one, several by their names, or none."""


def beside(directory: Path) -> dict[str, str]:
    """The templates in a tokenizer's directory, by their names."""
    found: dict[str, str] = {}
    for file in ("chat_template.json", "tokenizer_config.json"):
        found |= _by_name(read_json(directory / file).get("chat_template"))
    files = {DEFAULT: directory / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((directory / FOLDER).glob("*.jinja"))}
    return found | {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}


def processors(file: str | None) -> Templates:
    """The templates in a chat_template.json, which processors have and tokenizers do not read; None without a file."""
    found = _by_name(read_json(Path(file)).get("chat_template")) if file else {}
    return found.get(DEFAULT) if found.keys() <= {DEFAULT} else found


def chosen(templates: Templates, name: str | None) -> Templates:
    """The template that a name or source stands for; without one all that the tokenizer has."""
    if name is None:
        return templates
    return templates[name] if isinstance(templates, Mapping) and name in templates else name


def _by_name(value: Any) -> dict[str, str]:
    """Templates as JSON files have them: one, an object by name, or a list of objects with name and template."""
    if isinstance(value, list):
        return {str(each["name"]): str(each["template"]) for each in value}
    return {DEFAULT: value} if isinstance(value, str) else dict(value or {})
