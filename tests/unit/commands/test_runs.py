"""python -m trainyard runs: what it prints, draws and writes."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard import __main__ as entry
from unit.html_pages import Page, size_of
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


def test_list_prints_a_table_newest_first(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "first[a]", final=2.5, day=1)
    make_run(outputs, "second", state="running", steps=50, held_out=False, day=2)
    assert call("list") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "pretrain/" in line]
    newest, oldest = ([cell.strip() for cell in line.strip("│").split("│")] for line in lines)
    assert newest[:4] == ["pretrain/second", "dead", "50 of 100", "loss"]
    assert oldest[:4] == ["pretrain/first[a]", "finished", "100 of 100", "eval_loss"]
    assert oldest[4:8] == ["2.6070", "2.6070", "205k", "0.50"]


def test_list_prints_json_for_machines(call: Call, outputs: Path, capsys: Printed) -> None:
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


def test_show_tells_state_settings_and_metrics(call: Call, outputs: Path, capsys: Printed) -> None:
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


def test_best_prints_the_command_that_trains_like_it(call: Call, outputs: Path, capsys: Printed) -> None:
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


def test_nothing_measured_draws_no_panel_and_no_error(call: Call, outputs: Path, capsys: Printed) -> None:
    make_run(outputs, "sweeps/s/a", ["run.seed=1"], steps=-1)
    make_run(outputs, "sweeps/s/b", ["run.seed=2"], steps=-1)
    assert call("compare", "--sweep", "s") == 0
    assert sorted(file.name for file in (outputs / "compare" / "pretrain-s").iterdir()) == ["curves.png", "index.html"]


def test_listing_imports_nothing_heavy(tmp_path: Path) -> None:
    make_run(tmp_path)
    heavy = {"torch", "transformers", "matplotlib", "hydra", "omegaconf", "pyarrow", "numpy", "datasets", "numba"}
    code = (
        "import sys; from trainyard import __main__ as entry; "
        f"sys.argv = ['trainyard', 'runs', 'list', '--outputs', {str(tmp_path)!r}]; code = entry.main(); "
        f"print(sorted({heavy} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "pretrain/default" in done.stdout


def test_ctrl_c_ends_the_command_with_0(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    command = [sys.executable, "-m", "trainyard", "runs", "watch", "--outputs", str(tmp_path), "--interval", "60"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def hear() -> None:  # where the tests run in the background, SIGINT is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=hear) as process:
        assert process.stdout is not None
        assert "pretrain/a  finished  step 100 of 100" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_show_prints_the_status_as_it_is_but_for_the_state(call: Call, outputs: Path, capsys: Printed) -> None:
    run = make_run(outputs, "mine", state="running")
    written = run.read_status() | {"mood": "good", "seconds": "long"}
    run.write_status(written)
    (outputs / "pretrain" / "new").mkdir()
    (outputs / "pretrain" / "new" / "config.yaml").write_bytes(run.config.read_bytes())
    assert call("show", "mine", "new", "--json") == 0
    mine, new = (json.loads(line)["status"] for line in capsys.readouterr().out.splitlines())
    assert mine == written | {"state": "dead"} and new == {}
    assert call("list") == call("show", "mine") == 0
