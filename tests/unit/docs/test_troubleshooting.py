"""The messages of docs/troubleshooting.md are those of the code, word for word; `…` stands for what differs."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.+?`) \| ", PAGE, re.M)
FOREIGN = ("CUDA out of memory",)
"""Messages of libraries."""


@cache
def messages() -> str:
    """Every text of the code, what is filled in replaced by `…`, and every line of the launch scripts."""
    found: list[str] = []
    for file in (file for folder in ("trainyard", "pretrain", "sft") for file in Path(ROOT, folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [file.read_text(encoding="utf-8") for file in Path(ROOT, "launch").iterdir() if file.is_file()]
    return "\n".join(found)


def test_there_are_many() -> None:
    assert len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS)
def test_the_message_is_one_of_the_code(row: str) -> None:
    for message in re.findall(r"(`+)(.+?)\1(?!`)", row):
        pieces = [piece.strip(" .") for piece in message[1].strip().split("…")]
        for piece in (piece for piece in pieces if len(piece) > 3 and piece not in FOREIGN):
            assert piece in messages(), piece
