"""python -m trainyard runs: what it prints, draws and writes."""

import base64
import io
import json
import math
import re
import shlex
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from trainyard import __main__ as entry
from trainyard.runs import charts
from trainyard.runs.history import find
from unit.run_dirs import RATES, make_run, make_sweep

Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`python -m trainyard runs ... --outputs <tmp_path>/out`; its exit code."""

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["trainyard", "runs", *words, "--outputs", str(tmp_path / "out")])
        try:
            return entry.main()
        except SystemExit as stopped:  # argparse
            return int(str(stopped.code))

    return call


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "out"


Printed = pytest.CaptureFixture[str]


def test_list_as_a_table(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "first[a]", final=2.5, day=1)
    make_run(outputs, "second", state="running", steps=50, held_out=False, day=2)
    assert call("list") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "pretrain/" in line]
    newest, oldest = ([cell.strip() for cell in line.strip("│").split("│")] for line in lines)
    assert newest[:4] == ["pretrain/second", "dead", "50 of 100", "loss"]
    assert oldest[:4] == ["pretrain/first[a]", "finished", "100 of 100", "eval_loss"]
    assert oldest[4:8] == ["2.6070", "2.6070", "205k", "0.50"]


def test_list_for_machines(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "a", day=1)
    make_run(outputs, "b", day=2, final=math.nan)
    assert call("list", "--json", "--metric", "loss") == 0
    b, a = map(json.loads, capsys.readouterr().out.splitlines())
    assert (a["run"], a["state"], a["step"], a["metric"]) == ("pretrain/a", "finished", 100, "loss")
    assert a["best_step"] == 100 and a["last"] == a["best"] == pytest.approx(3.0064, abs=1e-3)
    assert math.isnan(b["last"]) and b["best"] is None


def test_without_runs_it_says_how_to_start_one(call: Call, outputs: Path, capsys: Printed) -> None:
    assert call("list") == 0
    assert "there are no runs" in (printed := capsys.readouterr().out) and "bash launch/pretrain.sh" in printed
    assert call("watch", "--once") == 0
    assert "bash launch/pretrain.sh" in capsys.readouterr().out
    assert call("best") == call("compare", "a", "b") == call("show", "a") == 2
    assert capsys.readouterr().err.count("bash launch/pretrain.sh") == 3


def test_show(call: Call, outputs: Path, capsys: Printed) -> None:
    directory = make_run(outputs, "mine", ["trainer.learning_rate=1e-4"], restarts=2, resumed_from=[20, 40])
    (directory.checkpoints / "checkpoint-100").mkdir(parents=True)
    assert call("show", "mine") == 0
    printed = capsys.readouterr().out
    for part in (
        "pretrain/mine: finished, step 100 of 100, 205k tokens, 0.50 hours, 2 ranks",
        "bash launch/pretrain.sh trainer.learning_rate=1e-4",
        "step 20, step 40",
    ):
        assert part in printed
    assert re.search(r"restarts +2\n", printed) and re.search(r"checkpoints +100\n", printed)
    assert re.search(r"│ trainer.learning_rate +│ 0.0015 +│ 0.0001 +│", printed)
    assert re.search(r"│ eval_loss +│ +3.1064 │ +3.1064 │ +100 │", printed)
    assert "data.block_size" not in printed
    assert call("show", "mine", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"] == {"trainer.learning_rate": 1e-4} and facts["status"]["restarts"] == 2


def test_an_unknown_name_is_answered_with_the_nearest(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "first-try")
    assert call("show", "frist-try") == 2
    assert capsys.readouterr().err == "error: frist-try: there is no such run. Did you mean pretrain/first-try?\n"
    assert call("compare", "first-try") == 2
    assert "takes two runs or more" in capsys.readouterr().err
    make_sweep(outputs)
    assert call("compare", "--sweep", "raets") == 2
    assert "Did you mean rates?" in capsys.readouterr().err
    assert call("compare", "first-try", "--sweep", "rates") == 2
    assert "not both" in capsys.readouterr().err
    assert call("best", "--metric", "accuracy") == 2
    assert "no run has measured accuracy" in capsys.readouterr().err
    assert call("list", "stray") == 2


def test_best_and_its_command(call: Call, outputs: Path, capsys: Printed) -> None:
    make_sweep(outputs)
    make_run(outputs, "tuned", stage="sft", final=1.0)
    assert call("best", "--sweep", "rates") == 0
    first, *_, command = capsys.readouterr().out.splitlines()
    assert first == (
        "pretrain/sweeps/rates/learning_rate=1e-3,hidden_size=192: eval_loss 2.8067, the best of 6 (finished), "
        "2 others have not finished or have none"
    )
    overrides = ["trainer.learning_rate=1e-3", "model.hidden_size=192"]
    assert shlex.split(command) == ["bash", "launch/pretrain.sh", *overrides]
    assert call("best", "--json") == 0
    assert [json.loads(line)["run"].split("/")[0] for line in capsys.readouterr().out.splitlines()] == [
        "pretrain",
        "sft",
    ]
    assert call("best", "--sweep", "rates", "--maximize", "--json") == 0
    assert "learning_rate=1e-4,hidden_size=96" in json.loads(capsys.readouterr().out)["run"]


class Page(HTMLParser):
    """Texts, pictures and every address of an HTML page; fails on tags that are not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[bytes] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.addresses.append(value or "")
        if tag == "img":
            self.pictures.append(base64.b64decode(str(dict(attrs)["src"]).removeprefix("data:image/png;base64,")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").resize((64, 64)).get_flattened_data())) > 5  # something is drawn
        return picture.size


def test_compare_writes_pictures_and_one_page(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "plain")
    make_run(outputs, "slow & <i>", ["trainer.learning_rate=1e-4"], final=3.5, state="running")
    assert call("compare", "plain", "slow & <i>") == 0
    printed = capsys.readouterr().out
    assert re.search(r"│ trainer.learning_rate +│ 0.0015 +│ 0.0001 +│", printed)
    assert re.search(r"│ last eval_loss +│ 3.1064 +│ 3.6057 +│", printed)
    assert "data.block_size" not in printed
    folder = outputs / "compare" / "pretrain-plain+pretrain-slow & <i>"
    assert [f"written: {folder / name}" in printed for name in ("curves.png", "index.html")] == [True, True]
    page = Page((folder / "index.html").read_text())
    assert {"pretrain/plain", "pretrain/slow & <i>", "trainer.learning_rate", "0.0001"} <= set(page.texts)
    assert "bash launch/pretrain.sh trainer.learning_rate=1e-4" in page.texts
    assert not [address for address in page.addresses if not address.startswith("data:")]
    (picture,) = page.pictures
    assert picture == (folder / "curves.png").read_bytes()
    width, height = size_of(picture)
    assert width > 1000 and height > 500


def test_compare_draws_a_sweep_over_what_was_swept(call: Call, outputs: Path, tmp_path: Path, capsys: Printed) -> None:
    points = make_sweep(outputs)
    assert call("compare", "--sweep", "rates", "--out", str(tmp_path / "there")) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "pretrain/sweeps" in line]
    order = [re.findall(r"learning_rate=(\S+?),hidden_size=(\d+)", row)[0] for row in rows]
    assert order == [(rate, size) for rate in RATES for size in ("96", "192")]
    page = Page((tmp_path / "there" / "index.html").read_text())
    assert len(page.pictures) == 2 and all(size_of(picture) for picture in page.pictures)
    assert {f"pretrain/sweeps/rates/{name}" for name in points} <= set(page.texts)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[charts.Figure]:
    """The figures that are turned into pictures from now on."""
    figures: list[charts.Figure] = []
    save = charts._png

    def keep(picture: charts.Figure) -> bytes:
        figures.append(picture)
        return save(picture)

    monkeypatch.setattr(charts, "_png", keep)
    return figures


def test_charts_have_labels_a_legend_and_the_best_point(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    make_sweep(outputs)
    runs = find(outputs, sweep="rates")
    assert charts.over_settings(runs, "eval_loss")
    assert charts.curves(runs, "eval_loss")
    over, curves = figures
    rate, size = sorted(over.axes, key=lambda axis: axis.get_xlabel(), reverse=True)
    assert (rate.get_xlabel(), rate.get_ylabel()) == ("trainer.learning_rate", "eval_loss")
    assert (rate.get_xscale(), size.get_xscale()) == (
        "linear",
        "linear",
    )  # 1e-2 has no loss, the rest is a factor of 10
    assert [text.get_text() for text in rate.get_xticklabels()] == ["0.0001", "0.0003", "0.001"]
    assert [text.get_text() for axis in over.axes for text in axis.texts] == ["best 2.8067"] * 2
    assert "2 of 8 runs have none" in over.get_suptitle()
    assert all(axis.get_legend() for axis in over.axes)
    steps, tokens = curves.axes
    assert (steps.get_xlabel(), tokens.get_xlabel(), steps.get_ylabel()) == ("optimizer step", "tokens", "loss")
    (legend,) = curves.legends
    assert {text.get_text() for text in legend.get_texts()} == {run.short for run in runs}
    star = next(line for line in tokens.lines if line.get_marker() == "*")
    assert list(star.get_xdata()) == [100 * 2048]
    looks = {(line.get_color(), line.get_linestyle()) for line in steps.lines if line.get_linewidth() > 1}
    assert len(looks) >= len(runs)  # no two alike


@pytest.mark.parametrize(
    ("rates", "scale"), [(("1e-4", "3e-3"), "linear"), (("1e-4", "4e-3"), "log"), (("0", "4"), "linear")]
)
def test_wide_ranges_are_drawn_over_their_logarithm(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[str, str], scale: str
) -> None:
    figures = drawn(monkeypatch)
    for number, rate in enumerate(rates):
        make_run(outputs, f"sweeps/s/{number}", [f"trainer.learning_rate={rate}"], final=3 + number)
    assert charts.over_settings(find(outputs, sweep="s"), "eval_loss")
    assert figures[0].axes[0].get_xscale() == scale


def test_a_run_that_breaks_down_does_not_flatten_the_others(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    make_run(outputs, "good")
    make_run(outputs, "broken", final=4000.0)
    make_run(outputs, "empty", steps=-1)
    assert charts.curves(find(outputs), "eval_loss")
    assert figures[0].axes[0].get_ylim()[1] < 20


@pytest.mark.parametrize("count", [40, 1])
def test_any_number_of_curves_has_a_look_of_its_own(count: int) -> None:
    looks = [charts._look(number, count) for number in range(count)]
    assert len({(str(look["color"]), look["linestyle"]) for look in looks}) == count


def test_nothing_measured_draws_no_panel_and_no_error(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "sweeps/s/a", ["run.seed=1"], steps=-1)
    make_run(outputs, "sweeps/s/b", ["run.seed=2"], steps=-1)
    assert call("compare", "--sweep", "s") == 0
    assert sorted(file.name for file in (outputs / "compare" / "pretrain-s").iterdir()) == ["curves.png", "index.html"]
