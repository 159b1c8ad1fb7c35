"""The pages of the documentation, and what is in them: commands, code spans, links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
"""Every page whose commands, names and links are held to be true."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")
_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:(?:bash|sbatch) \S.*|python (?:-m |\S+\.py).*|trainyard [a-z].*)")
_OPEN = ("...", "…", "VERB")
"""In a code span that looks like a command and leaves something open."""


@dataclass(frozen=True)
class Command:
    """A command of a page, its words as a shell makes them, without variables that are set before it."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        words = shlex.split(self.text, comments=True)
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        return words

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for found, body in _FENCE.findall(text) if found == language]


def spans(text: str) -> list[str]:
    """The code spans outside of fenced and indented blocks, pipes as they are meant in a table."""
    prose = re.sub(r"^    .*$", "", _FENCE.sub("", text), flags=re.M)
    return [span.strip().replace("\\|", "|") for _, span in _SPAN.findall(prose)]


def commands(page: Path) -> list[Command]:
    """What a page tells readers to type: the lines of its bash blocks and the code spans that are commands."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in fences(text, "bash") for line in block.splitlines() if line.strip()]
    closed = [span for span in spans(text) if not any(mark in span for mark in _OPEN)]
    return [Command(name(page), found) for found in [*lines, *closed] if _COMMAND.fullmatch(found)]


def links(text: str) -> list[str]:
    """The targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", _SPAN.sub("", _FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
