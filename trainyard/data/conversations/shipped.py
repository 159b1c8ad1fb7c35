"""The chat templates that come with trainyard."""

from functools import cache
from pathlib import Path


@cache
def shipped() -> dict[str, str]:
    """Their Jinja sources by their names, as data.chat_template names them."""
    directory = Path(__file__).parent / "templates"
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(directory.glob("*.jinja"))}
