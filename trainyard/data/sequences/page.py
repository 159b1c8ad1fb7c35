"""What preview prints, as a page for a browser: colours of a dark terminal, lines that wrap at the window's width."""

from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

_NORMAL = [
    (0, 0, 0), (255, 123, 114), (126, 231, 135), (240, 200, 90),
    (121, 192, 255), (210, 168, 255), (118, 227, 234), (201, 209, 217),
]  # fmt: skip
THEME = TerminalTheme(background=(13, 17, 23), foreground=(240, 246, 252), normal=_NORMAL)
"""Each colour of text has a contrast of 4.5 or more on each ground that preview uses (WCAG 2, level AA)."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>preview</title>
<style>
{stylesheet}
body {{ color: {foreground}; background-color: {background}; margin: 1rem auto; max-width: 75rem; padding: 0 1rem; }}
pre {{ font: 15px/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>
</head>
<body><pre>{code}</pre></body>
</html>
"""


def save(output: Console, file: str | Path) -> None:
    """Writes all that a recording console has printed as one HTML page.

    Raises:
        OSError: the file cannot be written.
    """
    output.save_html(str(file), theme=THEME, code_format=_PAGE)
