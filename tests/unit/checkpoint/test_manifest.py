"""A manifest comes back as it was written, and by it a checkpoint is trusted or not."""

import dataclasses
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from trainyard.checkpoint.directory import newest_good, required_bytes
from trainyard.checkpoint.layout import Layout
from trainyard.checkpoint.manifest import MANIFEST, FileEntry, Manifest, entries, unfinished, verify
from unit.checkpoint_dirs import make


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "nothing") == (None, [])
    assert verify(tmp_path / "nothing") == "no such directory"


def test_truncation_is_told_by_size(tmp_path: Path) -> None:
    path = make(tmp_path, 5)
    assert verify(path) is None
    (path / "model.safetensors").write_bytes(b"w")
    assert verify(path) == "model.safetensors has 1 bytes instead of 35"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "nested"])
def test_a_file_that_would_run_code_is_refused_and_not_loaded(tmp_path: Path, form: str) -> None:
    """Even when its checksum is right: whoever planted it could write the manifest too."""
    path, payload = make(tmp_path, 5), Payload(tmp_path / "executed")
    file = path / "rng_state_0.pth"
    if form == "plain":
        file.write_bytes(pickle.dumps(payload, protocol=0))
    elif form == "nested":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"state": [1, (2, payload)]}, protocol=5))
    else:
        torch.save({"state": payload}, file, _use_new_zipfile_serialization=form == "zip")
    Manifest(step=5, files=entries(path)).write(path)
    assert "rng_state_0.pth would run " in str(verify(path)) and "mkdir" in str(verify(path))
    assert newest_good(tmp_path)[0] is None
    assert not payload.proof.exists()


def test_a_manifest_has_the_keys_of_version_0_1_and_comes_back(tmp_path: Path) -> None:
    layout = Layout(2, "bf16", {"stage": 2})
    files = {"model.safetensors": FileEntry(7, "ab")}
    manifest = Manifest(5, 30, 2, 2, layout, {"torch": "2.8"}, files)
    manifest.write(tmp_path)
    assert json.loads((tmp_path / MANIFEST).read_text()) == {
        "step": 5,
        "samples_seen": 30,
        "world_size": 2,
        "zero_stage": 2,
        "layout": layout.to_json(),
        "versions": {"torch": "2.8"},
        "files": {"model.safetensors": {"size": 7, "xxh3_128": "ab"}},
    }
    assert Manifest.read(tmp_path) == manifest
    assert manifest.writers == "2 ranks under ZeRO-2"
    ddp = dataclasses.replace(manifest, zero_stage=0, layout=Layout())
    ddp.write(tmp_path)
    assert json.loads((tmp_path / MANIFEST).read_text())["layout"] is None
    assert Manifest.read(tmp_path) == ddp


def test_a_manifest_that_does_not_tell_its_layout_fits_no_ranks(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"step": 5, "world_size": 2, "files": {"a": {"size": 1, "xxh3_128": "b"}}}')
    manifest = Manifest.read(tmp_path)
    assert manifest == Manifest(step=5, world_size=2, files={"a": FileEntry(1, "b")})
    assert not manifest.fits(Layout(), 2) and not manifest.fits(Layout(2), 2)


def test_zero_needs_the_same_ranks_and_ddp_does_not() -> None:
    zero = Manifest(world_size=2, layout=Layout(2, "bf16", {"stage": 2}))
    assert zero.fits(Layout(2, "bf16", {"stage": 2}), 2)
    assert not zero.fits(Layout(2, "bf16", {"stage": 2}), 4)
    assert not zero.fits(Layout(2, "fp16", {"stage": 2}), 2)
    assert Manifest(world_size=2, layout=Layout()).fits(Layout(), 4)


def test_the_states_of_zero_and_of_ddp_are_measured() -> None:
    def sized(**sizes: int) -> Manifest:
        return Manifest(files={name.replace("__", "."): FileEntry(size, "") for name, size in sizes.items()})

    assert sized(rank_0_optim_states__pt=5, rank_1_optim_states__pt=7, model__safetensors=2).state_bytes() == 12
    assert sized(optimizer__pt=5, model__safetensors=2, scheduler__pt=1).state_bytes() == 7


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "{}", '{"files": {}}'])
def test_a_directory_without_a_finished_manifest_is_no_checkpoint(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    assert Manifest.read(tmp_path) is None
    assert unfinished(tmp_path) == verify(tmp_path) == "no manifest.json: the save did not finish"


def test_known_entries_are_not_read_again(tmp_path: Path) -> None:
    path = make(tmp_path, 5)
    known = {"model.safetensors": FileEntry(35, "known")}
    found = entries(path, known)
    assert found.keys() == {"model.safetensors", "global_step/optim.pt"}
    assert found["model.safetensors"] == known["model.safetensors"]
    assert found["global_step/optim.pt"] == entries(path)["global_step/optim.pt"]


ENTRY = {"size": 1, "xxh3_128": "ab"}
LAYOUT = {"stage": 2, "precision": "bf16", "zero_optimization": {"stage": 2}}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"files": ["model.safetensors"]}, "files is no object"),
        ({"files": {"a": "ab"}}, "the entry of a is no object"),
        ({"files": {"a": {"size": 1}}}, "the entry of a has no size or no checksum"),
        ({"files": {"a": {"size": "1", "xxh3_128": "ab"}}}, "the entry of a has no size or no checksum"),
        ({"layout": [2]}, "layout is no object with a stage"),
        ({"layout": {"precision": "bf16"}}, "layout is no object with a stage"),
        ({"layout": {"stage": 2, "zero_optimization": None}}, "a section of layout is no object"),
        ({"step": "five"}, "step is no whole number"),
    ],
)
def test_a_damaged_manifest_has_a_reason_and_the_older_checkpoint_is_found(
    tmp_path: Path, wrong: dict[str, object], reason: str
) -> None:
    good, bad = make(tmp_path, 5), make(tmp_path, 10)
    facts = json.loads((bad / MANIFEST).read_text())
    (bad / MANIFEST).write_text(json.dumps(facts | wrong))
    reason = f"manifest.json is damaged: {reason}"
    assert Manifest.read(bad) is None
    assert unfinished(bad) == verify(bad) == reason
    newest, passed_over = newest_good(tmp_path)
    assert newest is not None and newest.path == good
    assert [(verdict.path, verdict.reason) for verdict in passed_over] == [(bad, reason)]
    assert (
        required_bytes(tmp_path, trainable=7) == required_bytes(tmp_path, trainable=0) > 0
    )  # as large as the good one


def test_keys_of_another_version_are_passed_over(tmp_path: Path) -> None:
    entry, layout = ENTRY | {"compressed": False}, LAYOUT | {"shards": 4}
    facts = {"step": 5, "layout": layout, "files": {"a": entry}, "mood": "good"}
    (tmp_path / MANIFEST).write_text(json.dumps(facts))
    assert Manifest.read(tmp_path) == Manifest(
        step=5, layout=Layout(2, "bf16", {"stage": 2}), files={"a": FileEntry(1, "ab")}
    )
