"""A comparison as one HTML page that needs nothing beside itself."""

import base64
from collections.abc import Sequence
from html import escape

from trainyard.runs.history import Run
from trainyard.runs.settings import again

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.7rem; border-bottom: 1px solid #d8dee4; vertical-align: top; }
td:not(:first-child) { white-space: nowrap; } tr.best td { background: #fff8d6; } p.note { color: #7a4b00; }
code { font: 0.84rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
"""


def page(
    title: str, runs: Sequence[Run], rows: Sequence[Sequence[str]], pictures: dict[str, bytes], best: Run | None,
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The HTML text.

    Args:
        rows: the table of the runs, the names of its columns first; its first column has the runs' names.
        pictures: PNGs by what they show.
        best: the run whose row is marked.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f'<p class="note">{escape(note)}</p>' for note in notes)]
    if best:
        told = f"Best: {escape(best.name)}. To train with its settings:"
        parts.append(f"<p>{told}<br><code>{escape(again(best)[0])}</code></p>")
    for name, content in pictures.items():
        source = base64.b64encode(content).decode("ascii")
        parts.append(
            f'<h2>{escape(name.capitalize())}</h2><img alt="{escape(name)}" src="data:image/png;base64,{source}">'
        )
    parts.append(f'<h2>Runs</h2><div class="wide">{_table(rows, best.name if best else None)}</div>')
    parts.append("<h2>Commands</h2>")
    parts += [f"<p>{escape(run.name)}<br><code>{escape(again(run)[0])}</code></p>" for run in runs]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n'


def _table(rows: Sequence[Sequence[str]], best: str | None) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = ""
    for row in rows[1:]:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body += f'<tr class="best">{cells}</tr>' if row[0] == best else f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
