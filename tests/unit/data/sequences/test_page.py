"""The page of preview: every text on it can be read, and long lines wrap."""

import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from trainyard.data.sequences import page

STYLES = ["", "bold", "dim", "bold cyan", "green", "green on grey15", "on grey15", "black on green", "black on yellow"]
"""The styles in which preview prints."""


def luminance(colour: str) -> float:
    """The relative luminance of #rrggbb, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_stands_out_from_its_ground_and_lines_wrap(tmp_path: Path) -> None:
    output = Console(file=(tmp_path / "screen").open("w"), record=True, soft_wrap=True)
    for style in STYLES:
        output.print(Text(f"{style} <b>&amp;", style=style))
    page.save(output, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    body = re.search(r"body { color: (#\w{6}); background-color: (#\w{6})", text)
    assert body
    own = [body.groups()]
    for rule in re.findall(r"^\.r\d+ {(.*)}$", text, re.M):
        colours = dict(re.findall(r"(?<![\w-])(color|background-color): (#\w{6})", rule))
        own.append((colours.get("color", body[1]), colours.get("background-color", body[2])))
    assert len(own) == len(STYLES)
    assert min(contrast(*pair) for pair in own) >= 4.5, own
    assert "pre-wrap" in text and "anywhere" in text
    assert "<b>" not in text and "&lt;b&gt;&amp;amp;" in text


def test_the_styles_are_those_of_the_code() -> None:
    root = Path(page.__file__).parents[2]
    code = "".join((root / name).read_text() for name in ("data/sequences/show.py", "commands/preview.py"))
    shown = set(re.findall(r'style="([^"]*)"', code)) | set(re.findall(r'"(green|yellow)"', code))
    assert shown == {"bold", "dim", "bold cyan", "green", "yellow"}
    assert 'f"black on {colour}"' in code and " on grey15" in code
