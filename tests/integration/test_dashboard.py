"""The dashboard of real runs, in a real browser."""

import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT, Finished, clean_env, settings
from disturb import Warm

from trainyard.machine import checkout
from trainyard.machine.ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFFLINE = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
EVERY_CHART = (300, 230, 1600, 1500)
"""The part of the page to the right of the list of experiments and below the header."""

LOSS_CHART = (340, 335, 715, 535)
"""The inside of the first chart on an experiment's page."""

QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Browser:
    """Headless Chromium with a new profile for each page."""

    def __init__(self, program: str, folder: Path):
        self.program, self.folder, self._pages = program, folder, itertools.count()

    def _open(self, page: str, *options: str) -> str:
        profile = f"--user-data-dir={self.folder / f'profile-{next(self._pages)}'}"
        patience = ["--window-size=1600,1500", "--virtual-time-budget=20000"]
        command = [self.program, *OFFLINE, *QUIET, *patience, profile, *options, page]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    def text(self, page: str) -> str:
        """The HTML of a page after its scripts have run."""
        return self._open(page, "--dump-dom")

    def picture(self, page: str) -> Any:
        from PIL import Image

        file = self.folder / f"{next(self._pages)}.png"
        self._open(page, f"--screenshot={file}")
        return Image.open(file).convert("RGB")


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    return Browser(CHROMIUM, tmp_path)


def columns(picture: Any, box: tuple[int, int, int, int], color: tuple[int, int, int] | None = None) -> list[int]:
    """The pixels of drawn lines between the sides left, top, right, bottom: of one colour, or all but the grey ones."""
    left, top, right, bottom = box
    return [
        x
        for x in range(left, right)
        for y in range(top, bottom)
        if (pixel := picture.getpixel((x, y))) == color or (color is None and max(pixel) - min(pixel) > 40)
    ]


@pytest.fixture(scope="module")
def dashboard(zero2_run: Finished, lora_run: Finished) -> Iterator[str]:
    """The address of `bash launch/dashboard.sh`, which shows the runs of the tests."""
    port = free_port()
    arguments = ["bash", str(ROOT / "launch" / "dashboard.sh"), str(zero2_run.run.parent.parent), "--port", str(port)]
    server = subprocess.Popen(arguments, env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/api/v1/project", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.1)
    yield address
    server.terminate()
    server.wait(timeout=30)


def ask(address: str) -> Any:
    """The answer of SwanLab's API, as JSON."""
    with urllib.request.urlopen(address, timeout=30) as reply:
        return json.load(reply)["data"]


def test_one_experiment_from_rank_0_with_its_config(dashboard: str, zero2_run: Finished) -> None:
    experiments = [e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "zero2-2"]
    assert len(experiments) == 1
    config = {key: entry["value"] for key, entry in experiments[0]["config"].items()}
    assert config["trainer"]["max_steps"] == 20
    assert config["started"] == {"command": zero2_run.status["command"], "git_commit": checkout.commit()}
    assert config["deepspeed_json"]["zero_optimization"]["stage"] == 2
    assert experiments[0]["status"] == 1  # finished


def test_the_curves_are_drawn_in_the_browser(dashboard: str, browser: Browser, zero2_run: Finished) -> None:
    (experiment,) = (e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "zero2-2")
    page = f"{dashboard}/experiment/{experiment['id']}/chart"  # the page of all may draw others over it
    text = browser.text(page)
    for title in ("train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/perplexity"):
        assert title in text, title
    for title in (
        "speed/tokens_per_second",
        "data/data_wait",
        "data/tokens_seen",
        "memory/memory_gib",
        "by_tokens/loss",
    ):
        assert title in text, title
    drawn = columns(browser.picture(page), EVERY_CHART)
    assert len(drawn) > 500, "no lines on the charts"
    assert len(set(drawn)) > 500, "the lines do not run across the charts"


def test_answers_before_and_after_are_shown_as_text(dashboard: str, browser: Browser, lora_run: Finished) -> None:
    rows = [json.loads(line) for line in (lora_run.run / "samples.jsonl").read_text().splitlines()]
    before, after = ([row for row in rows if row["step"] == step] for step in (0, 6))
    assert len(before) == len(after) >= 2 and len(rows) == 2 * len(before)
    assert all(row["prompt"].startswith("<|q|>say") and row["prompt"].endswith("<|a|>") for row in rows)
    (experiment,) = (e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "lora")
    text = browser.text(f"{dashboard}/experiment/{experiment['id']}/chart")
    assert "samples/answers" in text
    assert before[0]["reference"].split()[0] in text
    example = (lora_run.run / "example.txt").read_text()
    asked, _, learned = example.partition("<|a|>")
    assert "<|q|>" in asked and "⟦" not in asked and learned.startswith("⟦")
    assert "samples/learned" in text and "⟦" in text and "⟧" in text


def sections(dashboard: str, experiment: int) -> dict[str, list[str]]:
    """The names of the charts in each section of an experiment's page."""
    drawn = ask(f"{dashboard}/api/v1/experiment/{experiment}/chart")
    names = {chart["id"]: chart["name"] for chart in drawn["charts"]}
    return {section["name"]: [names[chart] for chart in section["charts"]] for section in drawn["namespaces"]}


def curve(dashboard: str, experiment: int, chart: str) -> list[tuple[int, float]]:
    points = ask(f"{dashboard}/api/v1/experiment/{experiment}/tag/{chart}")["list"]
    return [(int(point["index"]), point["data"]) for point in points]


def named(dashboard: str, beginning: str) -> list[dict[str, Any]]:
    found = ask(f"{dashboard}/api/v1/project")["experiments"]
    return [experiment for experiment in found if experiment["name"].startswith(beginning)]


class Twice(NamedTuple):
    """A run that was interrupted twice: its experiment after the first stop, and the finished run."""

    before: dict[str, Any]
    curve: list[tuple[int, float]]
    done: Finished


@pytest.fixture(scope="module")
def twice(dashboard: str, warm: Warm, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """Stops a run once; then rank 0 fails after a checkpoint, and the steps since the checkpoint are done again."""
    assert warm("twice", corpus, fault="stop-in-forward 1 4").code == 75
    (before,) = named(dashboard, "twice")
    shown = curve(dashboard, before["id"], "train/loss")
    once = tmp_path_factory.mktemp("twice") / "fault"
    done = warm("twice", corpus, "trainer.save_steps=8", fault="fail 0 13", FAULT_ONCE=str(once))
    assert done.code == 0 and once.exists(), done.stdout + done.stderr
    assert done.status["restarts"] == 1 and done.status["resumed_from"]
    return Twice(before, shown, done)


@pytest.mark.timeout(300)
def test_a_run_that_was_interrupted_twice_is_one_unbroken_experiment(dashboard: str, twice: Twice) -> None:
    before, done = twice.before, twice.done
    assert [step for step, _ in twice.curve] == [1, 2, 3, 4, 5]
    (after,) = named(dashboard, "twice")
    assert (after["name"], after["status"], after["light"]) == ("twice", 1, before["light"])
    assert after["run_id"] != before["run_id"] and after["run_id"][-16:] == before["run_id"][-16:]
    for name, chart in (("loss", "train/loss"), ("eval_loss", "eval/loss"), ("grad_norm", "train/grad_norm")):
        expected = [(row["step"], pytest.approx(row[name])) for row in done.metrics if name in row]
        assert curve(dashboard, after["id"], chart) == expected
    assert [step for step, _ in curve(dashboard, after["id"], "train/loss")] == list(range(1, 21))
    assert set(sections(dashboard, after["id"])["system"]) == {
        f"system/{what}.{rank}" for what in ("cpu_percent", "memory_gib") for rank in (0, 1)
    }
    tokens = [(row["tokens_seen"], pytest.approx(row["loss"])) for row in done.metrics if "loss" in row]
    assert curve(dashboard, after["id"], "by_tokens/loss") == tokens
    folders = list((done.run.parent.parent / "swanlog").glob(f"run-*-{after['run_id'][-16:]}"))
    assert [folder.name for folder in folders] == [after["run_id"]]
    drawn = sections(dashboard, after["id"])
    assert list(drawn) == ["train", "eval", "by_tokens", "speed", "memory", "data", "system"]
    assert all(name.startswith(f"{section}/") for section, names in drawn.items() for name in names)


@pytest.mark.timeout(300)
def test_in_the_browser_its_curve_has_no_gap(dashboard: str, browser: Browser, twice: Twice) -> None:
    (experiment,) = named(dashboard, "twice")
    page = f"{dashboard}/experiment/{experiment['id']}/chart"
    assert "twice" in browser.text(page)
    drawn = sorted(set(columns(browser.picture(page), LOSS_CHART)))
    assert drawn[-1] - drawn[0] > 250, "the line does not run across the chart"
    assert max(right - left for left, right in itertools.pairwise(drawn)) <= 3, "the line is interrupted"


@pytest.fixture(scope="module")
def points(dashboard: str, outputs: Path, corpus: Path) -> list[str]:
    """The names of the two points of a sweep, which run at the same time."""
    command = ["bash", str(ROOT / "launch" / "pretrain.sh"), "-m", *settings(outputs, "none", corpus)]
    rates = ["trainer.learning_rate=2e-3,1e-2", "sweep.name=rates", "trainer.max_steps=10"]
    words = [word for word in command if not word.startswith("run.name=")]
    done = subprocess.run([*words, *rates, "launch.devices_per_job=1"], env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ["learning_rate=0.002", "learning_rate=0.01"]


@pytest.mark.timeout(300)
def test_the_points_of_a_sweep_stand_together(dashboard: str, points: list[str]) -> None:
    found = ask(f"{dashboard}/api/v1/project")["experiments"]
    together = {each["name"]: each for each in found if each["description"].startswith("of the sweep rates:")}
    assert set(together) == {f"{point} of rates" for point in points}
    assert {each["config"]["run"]["value"]["sweep"] for each in together.values()} == {"rates"}
    described = {each["description"] for each in together.values()}
    assert described == {f"of the sweep rates: {point}" for point in points}


@pytest.mark.timeout(300)
def test_in_the_browser_each_point_has_its_line(dashboard: str, browser: Browser, points: list[str]) -> None:
    from PIL import ImageColor

    page = f"{dashboard}/charts"
    text = browser.text(page)
    assert all(f"{point} of rates" in text for point in points)
    picture = browser.picture(page)
    for point in points:
        (experiment,) = named(dashboard, point)
        drawn = columns(picture, EVERY_CHART, ImageColor.getrgb(experiment["light"]))
        assert len(drawn) > 500, f"no line in the colour of {point}"
