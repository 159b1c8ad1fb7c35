"""The table of faults has every fault that a test does to a run, and no other."""

import re

from conftest import ROOT


def test_the_table_of_faults_has_all_of_them() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    marked = re.findall(r'\bfaults\(\s*case="([\d, ]+)",\s*fault="([^"]+)"', sources)
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| ([\d, ]+) \| (.+) \| (\d+ passed) \|$", page, re.M)
    assert len(marked) > 60
    assert {(case, fault) for case, fault, _ in shown} == set(marked)
