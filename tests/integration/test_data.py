"""The commands prepare and preview, and training on packed, isolated documents."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import TINY, Finished, Pretrain, clean_env, make_documents

from trainyard.config.saved import load


def trainyard(verb: str, outputs: Path, corpus: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(verb, outputs, corpus, *more), env=clean_env(), capture_output=True, text=True)


def command(verb: str, outputs: Path, corpus: Path, *more: str) -> list[str]:
    data = [override for override in TINY if override.startswith(("data.", "tokenizer."))]
    source = f"data.sources=[{{path: '{corpus}', format: jsonl}}]"
    return [sys.executable, "-m", "trainyard", verb, "pretrain", f"paths.outputs={outputs}", source, *data, *more]


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_prepare_describes_what_it_made_and_finds_it_again(tmp_path: Path, corpus: Path) -> None:
    done = trainyard("prepare", tmp_path, corpus)
    made = summary(done)
    wanted = {"prepared", "documents", "tokens", "sequences", "fill", "rejected", "tokenizer_backend", "seconds"}
    assert wanted | {"mb_per_s"} <= made.keys()
    assert (made["documents"], made["rejected"], made["tokenizer_backend"]) == (60, 0, "gigatoken")
    assert "tokenized by gigatoken: it gave the reference's ids on" in done.stderr
    for row in ("documents", "tokens", "sequences", "fill", "rejected", "bytes per token", "tokens per document"):
        assert row in done.stderr
    assert "█" in done.stderr  # the histogram
    packed = summary(trainyard("prepare", tmp_path, corpus, "data.packing=best_fit"))
    assert packed["prepared"] == made["prepared"]
    assert packed["seconds"] == made["seconds"]  # the tokens were made once
    assert packed["fill"] > 0.9


def test_shares_and_processes_publish_one_store(tmp_path: Path, corpus: Path) -> None:
    whole = summary(trainyard("prepare", tmp_path / "whole", corpus, "--processes", "3"))
    first = summary(trainyard("prepare", tmp_path / "shares", corpus, "--shard", "1/2"))
    second = summary(trainyard("prepare", tmp_path / "shares", corpus, "--shard", "2/2"))
    published = [each for each in (first, second) if each["prepared"]]  # the corpus is one part: one share has it
    assert len(published) == 1
    assert published[0]["tokens"] == whole["tokens"]
    wrong = trainyard("prepare", tmp_path, corpus, "--shard", "3/2")
    assert wrong.returncode == 2
    assert "--shard 3/2: must be I/N, as 2/4 for the second of four shares" in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_prepare_that_is_ended_ends_its_helper_and_goes_on_later(tmp_path: Path, number: signal.Signals) -> None:
    """The signal comes while two processes work on a corpus of several parts."""
    corpus = tmp_path / "large.jsonl"
    text = " ".join(make_documents(200))
    with corpus.open("w") as stream:
        for row in range(700):
            stream.write(json.dumps({"text": f"{row} {text}"}) + "\n")
    arguments = command("prepare", tmp_path / "out", corpus, "--processes", "2")
    process = subprocess.Popen(arguments, env=clean_env(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    helpers: list[psutil.Process] = []
    while not helpers or not list((tmp_path / "out").glob("prepared/.*.parts/.data-*.arrow")):
        assert process.poll() is None
        helpers = [child for child in psutil.Process(process.pid).children() if "--helper" in child.cmdline()]
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    assert process.returncode == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    assert psutil.wait_procs(helpers, timeout=60)[1] == []
    (parts,) = (tmp_path / "out" / "prepared").glob(".*.parts")
    assert len(list(parts.glob("part-*.json"))) < int(parts.name.split(".")[2])  # the helper did not go on
    made = summary(subprocess.run(arguments, env=clean_env(), capture_output=True, text=True))
    assert made["documents"] == 700


def test_bad_documents_stop_prepare_with_exit_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps({"text": text}) + "\n" for text in make_documents(50)) + '{"text": 1}\n{"te\n')
    done = trainyard("prepare", tmp_path / "out", bad)
    assert done.returncode == 2
    assert f"error: {bad}:51: column 'text' must hold text, this is int '1'" in done.stderr
    assert f"error: {bad}:52: not valid JSON" in done.stderr
    assert "data.on_error=skip" in done.stderr
    assert "Traceback" not in done.stderr
    skipped = summary(trainyard("prepare", tmp_path / "out", bad, "data.on_error=skip", "data.max_rejected=0.05"))
    assert (skipped["documents"], skipped["rejected"]) == (50, 2)
    assert len((Path(skipped["prepared"]) / "rejected.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("isolate", [True, False])
def test_preview_shows_what_the_model_will_see(outputs: Path, corpus: Path, isolate: bool) -> None:
    settings = ["data.packing=best_fit", f"data.isolate_documents={str(isolate).lower()}", "data.block_size=128"]
    shown = trainyard("preview", outputs, corpus, *settings, "--count", "12")
    assert shown.returncode == 0, shown.stderr
    assert len(re.findall(r"position \d+: sequence \d+ of \d+, \d+ of 128 places filled", shown.stdout)) == 12
    assert "<|endoftext|>" in shown.stdout
    cuts = shown.stdout.count("attention starts anew" if isolate else "sees what is before it")
    raw = trainyard("preview", outputs, corpus, *settings, "--count", "12", "--json")
    rows = [json.loads(line) for line in raw.stdout.splitlines()]
    assert cuts == sum(len(row["pieces"]) - 1 for row in rows) > 0
    for row in rows:
        pieces = row["pieces"]
        assert len(row["input_ids"]) == 128
        starts = [sum(piece["length"] for piece in pieces[:number]) for number in range(len(pieces))]
        filled = sum(piece["length"] for piece in pieces)
        assert ("position_ids" in row) == isolate
        if isolate:
            assert [place for place in range(filled) if row["position_ids"][place] == 0] == starts
            assert all(row["labels"][start] == -100 for start in starts)
        whole = [piece for piece in pieces if piece["length"] == piece["document_length"]]
        assert f"whole: {whole[0]['length']} tokens" in shown.stdout if whole else True
        for piece in pieces:
            assert f"document {piece['document']} of {corpus}" in shown.stdout


def test_a_preview_out_of_range_is_refused(outputs: Path, corpus: Path) -> None:
    done = trainyard("preview", outputs, corpus, "--start", "-1")
    assert done.returncode == 2
    assert "--start -1" in done.stderr


@pytest.fixture(scope="module")
def packed_run(pretrain: Pretrain) -> Finished:
    done = pretrain("packed", "data.packing=best_fit", "data.isolate_documents=true")
    assert done.code == 0, done.stdout + done.stderr
    return done


def test_packed_and_isolated_training_gives_the_loss_of_single_documents(packed_run: Finished) -> None:
    """The held-out loss of two ranks under ZeRO-2 equals the loss of the documents one by one."""
    from transformers import AutoModelForCausalLM

    from trainyard.data.batches.dataset import open_datasets

    assert "filled by best_fit, documents isolated" in packed_run.stdout
    config = load(packed_run.run / "config.yaml")
    held_out = open_datasets(Path(str(config.data.prepared)), config.data, config.run.seed).evaluation
    assert held_out is not None
    model = AutoModelForCausalLM.from_pretrained(packed_run.run / "model").eval()
    total = count = 0.0
    pieces = [span for index in range(len(held_out)) for span in held_out.plan.spans(index)]
    for start, stop in pieces:
        if stop - start > 1:
            ids = torch.from_numpy(held_out.store.read(start, stop).astype("int64"))[None]
            with torch.no_grad():
                total += float(model(input_ids=ids, labels=ids).loss) * (stop - start - 1)
            count += stop - start - 1
    assert len(pieces) > len(held_out)
    assert total / count == pytest.approx(packed_run.series("eval_loss")[-1], rel=1e-5)
    assert packed_run.series("loss")[-1] < packed_run.series("loss")[0]


def test_a_mixture_is_trained_on_and_another_one_is_drift(pretrain: Pretrain, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        texts = make_documents(30, seed=seed)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def sources(weight: float) -> str:
        rows = [f"{{path: '{tmp_path}/{n}.jsonl', format: jsonl, weight: {w}}}" for n, w in (("a", 1), ("b", weight))]
        return f"data.sources=[{', '.join(rows)}]"

    short = ["trainer.max_steps=2", "trainer.save_steps=1", "tracking=none", "deepspeed=none", "launch.num_devices=1"]
    done = pretrain("mixture", sources(3), *short)
    assert done.code == 0, done.stdout + done.stderr
    other = pretrain("mixture", sources(2), *short, "trainer.max_steps=4")
    assert other.code == 2
    assert "data.sources: the run has" in other.stderr
