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
    assert experiments[0]["config"]["trainer"]["value"]["max_steps"] == 20
    assert experiments[0]["status"] == 1  # finished


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_curves_are_drawn_in_the_browser(dashboard: str, zero2_run: Finished, tmp_path: Path) -> None:
    from PIL import Image, ImageColor

    assert CHROMIUM is not None
    base = [CHROMIUM, *OFFLINE, *QUIET, "--window-size=1600,1500", "--virtual-time-budget=20000"]
    page = f"{dashboard}/charts"
    dom = subprocess.run(
        [*base, f"--user-data-dir={tmp_path / 'one'}", "--dump-dom", page], capture_output=True, text=True, timeout=120
    ).stdout
    for title in ("train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/perplexity"):
        assert title in dom, title
    for title in ("speed/tokens_per_second", "speed/data_wait", "memory/memory_gib"):
        assert title in dom, title

    picture = tmp_path / "charts.png"
    shot = [*base, f"--user-data-dir={tmp_path / 'two'}", f"--screenshot={picture}", page]
    subprocess.run(shot, capture_output=True, timeout=120, check=True)
    (experiment,) = (e for e in ask(f"{dashboard}/api/v1/project")["experiments"] if e["name"] == "zero2-2")
    color = ImageColor.getrgb(experiment["light"])
    image = Image.open(picture).convert("RGB")
    drawn = [
        (x, y)
        for y in range(150, image.height)  # below the page's header
        for x in range(300, image.width)  # right of the list of experiments
        if image.getpixel((x, y)) == color
    ]
    assert len(drawn) > 500, "no line in the colour of the experiment"
    columns = {x for x, _ in drawn}
    assert len(columns) > 500, "the lines do not run across the charts"


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
