"""The page of a comparison: what it shows, and that no text of a user becomes part of the HTML."""

from pathlib import Path

import pytest

from trainyard.runs.page import page
from unit.html_pages import Page
from unit.run_dirs import make_run, the_run

NAME = "a <b> & 'c'"
ROWS = [["run", "model"], [f"pretrain/{NAME}", "<script>"], ["pretrain/b", "x"]]


@pytest.mark.parametrize("best", [True, False])
def test_texts_are_escaped_and_the_best_run_is_marked(tmp_path: Path, best: bool) -> None:
    make_run(tmp_path, NAME, ["trainer.learning_rate=1e-4"])
    make_run(tmp_path, "b")
    runs = [the_run(tmp_path, NAME), the_run(tmp_path, "b")]
    text = page("T & <t>", runs, ROWS, {"curves": b"png"}, runs[0] if best else None, ["a <note>"])
    read = Page(text)
    assert {"T & <t>", "a <note>", "<script>", f"pretrain/{NAME}", "Curves"} <= set(read.texts)
    assert "<script>" not in text and "<b>" not in text and text.endswith("</html>\n")
    assert read.pictures == [b"png"] and read.addresses == ["data:image/png;base64,cG5n"]
    assert read.texts.count("bash launch/pretrain.sh trainer.learning_rate=1e-4") == 1 + best
    assert read.texts.count("bash launch/pretrain.sh") == 1
    assert text.count('class="best"') == best
    assert (f"Best: pretrain/{NAME}. To train with its settings:" in read.texts) == best
