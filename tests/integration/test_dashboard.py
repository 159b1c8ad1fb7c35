"""The dashboard of a real run, in a real browser."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Finished, clean_env
from disturb import Warm

from trainyard import checkout
from trainyard.launcher import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFFLINE = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def dashboard(zero2_run: Finished, lora_run: Finished) -> Iterator[str]:
    """`bash launch/dashboard.sh` over the outputs of the tests; yields its address."""
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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_curves_are_drawn_in_the_browser(dashboard: str, zero2_run: Finished, tmp_path: Path) -> None:
    from PIL import Image

    assert CHROMIUM is not None
    base = [CHROMIUM, *OFFLINE, *QUIET, "--window-size=1600,1500", "--virtual-time-budget=20000"]
    (experiment,) = (e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "zero2-2")
    page = f"{dashboard}/experiment/{experiment['id']}/chart"  # on the page of all, other lines may cover its own
    dom = subprocess.run(
        [*base, f"--user-data-dir={tmp_path / 'one'}", "--dump-dom", page], capture_output=True, text=True, timeout=120
    ).stdout
    for title in ("train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/perplexity"):
        assert title in dom, title
    for title in (
        "speed/tokens_per_second",
        "data/data_wait",
        "data/tokens_seen",
        "memory/memory_gib",
        "by_tokens/loss",
    ):
        assert title in dom, title

    picture = tmp_path / "charts.png"
    shot = [*base, f"--user-data-dir={tmp_path / 'two'}", f"--screenshot={picture}", page]
    subprocess.run(shot, capture_output=True, timeout=120, check=True)
    image = Image.open(picture).convert("RGB")
    drawn = [
        (x, y)
        for y in range(230, image.height)  # below the page's header
        for x in range(300, image.width)  # right of the list of experiments
        if max(pixel := image.getpixel((x, y))) - min(pixel) > 40  # all but the lines is grey
    ]
    assert len(drawn) > 500, "no lines on the charts"
    columns = {x for x, _ in drawn}
    assert len(columns) > 300, "the lines do not run across the charts"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_answers_before_and_after_are_shown_as_text(dashboard: str, lora_run: Finished, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (lora_run.run / "samples.jsonl").read_text().splitlines()]
    before, after = ([row for row in rows if row["step"] == step] for step in (0, 6))
    assert len(before) == len(after) >= 2 and len(rows) == 2 * len(before)
    assert all(row["prompt"].startswith("<|q|>say") and row["prompt"].endswith("<|a|>") for row in rows)
    assert CHROMIUM is not None
    (experiment,) = (e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "lora")
    page = f"{dashboard}/experiment/{experiment['id']}/chart"
    options = [
        *OFFLINE,
        *QUIET,
        "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path}",
    ]
    dom = subprocess.run([CHROMIUM, *options, "--dump-dom", page], capture_output=True, text=True, timeout=120).stdout
    assert "samples/answers" in dom
    assert before[0]["reference"].split()[0] in dom
    example = (lora_run.run / "example.txt").read_text()
    asked, _, learned = example.partition("<|a|>")
    assert "<|q|>" in asked and "⟦" not in asked and learned.startswith("⟦")
    assert "samples/learned" in dom and "⟦" in dom and "⟧" in dom


def sections(dashboard: str, experiment: int) -> dict[str, list[str]]:
    """The names of the charts in each section of an experiment's page."""
    drawn = ask(f"{dashboard}/api/v1/experiment/{experiment}/chart")
    names = {chart["id"]: chart["name"] for chart in drawn["charts"]}
    return {section["name"]: [names[chart] for chart in section["charts"]] for section in drawn["namespaces"]}


def curve(dashboard: str, experiment: int, chart: str) -> list[tuple[int, float]]:
    points = ask(f"{dashboard}/api/v1/experiment/{experiment}/tag/{chart}")["list"]
    return [(int(point["index"]), point["data"]) for point in points]


@pytest.mark.timeout(300)
def test_a_run_that_was_interrupted_twice_is_one_unbroken_experiment(
    dashboard: str, warm: Warm, corpus: Path, tmp_path: Path
) -> None:
    """Stopped once; then rank 0 fails behind a checkpoint, and what was done since is done again."""

    def shown() -> list[dict[str, Any]]:
        found = ask(f"{dashboard}/api/v1/project")["experiments"]
        return [experiment for experiment in found if experiment["name"].startswith("twice")]

    assert warm("twice", corpus, fault="stop-in-forward 1 4").code == 75
    (before,) = shown()
    assert [step for step, _ in curve(dashboard, before["id"], "train/loss")] == [1, 2, 3, 4, 5]
    once = str(tmp_path / "fault")
    done = warm("twice", corpus, "trainer.save_steps=8", fault="fail 0 13", FAULT_ONCE=once)
    assert done.code == 0 and Path(once).exists(), done.stdout + done.stderr
    assert done.status["restarts"] == 1 and done.status["resumed_from"]

    (after,) = shown()
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
def test_the_points_of_a_sweep_stand_together(dashboard: str, warm: Warm, corpus: Path) -> None:
    points = ["learning_rate=1e-3,hidden_size=64", "learning_rate=3e-3,hidden_size=64"]
    for point in points:
        rate = point.partition(",")[0]
        done = warm(f"'{point}'", corpus, f"trainer.{rate}", "run.sweep=rates", "trainer.max_steps=4")
        assert done.code == 0, done.stdout + done.stderr
    found = ask(f"{dashboard}/api/v1/project")["experiments"]
    together = {each["name"]: each for each in found if each["description"].startswith("of the sweep rates:")}
    assert set(together) == {f"{point} of rates" for point in points}
    assert {each["config"]["run"]["value"]["sweep"] for each in together.values()} == {"rates"}
    described = {each["description"] for each in together.values()}
    assert described == {f"of the sweep rates: {point.replace(',', ', ')}" for point in points}
    charts = {chart["name"]: chart for chart in ask(f"{dashboard}/api/v1/project/charts")["charts"]}
    assert set(together) <= set(charts["train/loss"]["source"]), "their curves lie in one chart"
