"""A comparison of runs as one HTML page that needs no other file and no network."""

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from trainyard.runs.history import Run
from trainyard.runs.settings import again

TEMPLATE = "page.html.jinja"
"""Lies beside this file."""


def page(
    title: str, runs: Sequence[Run], rows: Sequence[Sequence[str]], pictures: dict[str, bytes], best: Run | None,
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The page as HTML: all text is escaped, and the pictures are embedded.

    Args:
        rows: the table of the runs, see tables.compared: the names of its columns, then a row per run.
        pictures: PNG files, each by a word for its subject.
        best: the run whose row is marked, and whose command stands at the top.
        notes: warnings about the comparison.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    shown = [*runs, *([best] if best else [])]
    return environment.get_template(TEMPLATE).render(
        title=title,
        rows=rows,
        pictures={name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in pictures.items()},
        best=best.name if best else None,
        commands={run.name: again(run).command for run in shown},
        notes=notes,
    )
