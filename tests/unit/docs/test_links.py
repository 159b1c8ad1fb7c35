"""Every link, file and folder that a page names is there."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from unit.pages import PAGES, anchors, links, name, spans

OF_ONE_MACHINE = "conf/local.yaml"
"""A file that users write, and git ignores."""
FOLDERS = "trainyard|pretrain|sft|conf|ds_configs|launch|tests|benchmarks|docs"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        assert aim.exists(), target
        if anchor:
            assert anchor in anchors(aim.read_text(encoding="utf-8")), target


def test_links_were_found() -> None:
    assert sum(len(links(page.read_text(encoding="utf-8"))) for page in PAGES) > 60


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    for span in spans(page.read_text(encoding="utf-8")):
        path = span.partition(":")[0]
        if path != OF_ONE_MACHINE and re.fullmatch(rf"(?:{FOLDERS})/[\w./*-]*", path):
            assert list(ROOT.glob(path.rstrip("/"))), span


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [link.partition("#")[0] for link in links(page.read_text(encoding="utf-8"))]
        ahead += [(page.parent / target).resolve() for target in targets if target and not target.startswith("http")]
    assert set(PAGES) <= seen
