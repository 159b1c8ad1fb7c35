"""Checkpoint directories: the manifest that makes one whole, finding the newest good one, deleting old ones.

Needs no torch, so the controller chooses what to resume from before a GPU is claimed.
"""

import re
import shutil
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError, safe_open

from trainyard import pickles
from trainyard.rundir import read_json, write_json

MANIFEST = "manifest.json"
PARAMETERS = "parameters.json"
"""In a checkpoint of DDP: the parameters' names in the order of the optimizer, which knows them by number alone."""
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Verdict:
    """One checkpoint directory; `reason` tells why it cannot be used and is None for a good one."""

    path: Path
    step: int
    reason: str | None


def write_manifest(checkpoint: Path, known: dict[str, Any] | None = None, **facts: Any) -> None:
    """Describes every file of a checkpoint by size and checksum, beside `facts` such as step and world_size.

    Args:
        known: entries of files that need not be read for that, by name.

    Written last and in one step: a directory without a manifest is not a checkpoint.
    """
    known = known or {}
    names = {str(file.relative_to(checkpoint)): file for file in sorted(checkpoint.rglob("*")) if file.is_file()}
    names.pop(MANIFEST, None)
    files = {
        name: known.get(name) or {"size": file.stat().st_size, "xxh3_128": _checksum(file)}
        for name, file in names.items()
    }
    write_json(checkpoint / MANIFEST, {**facts, "files": files})


def unfinished(checkpoint: Path) -> str | None:
    """Why a directory is no checkpoint, or None when its save has finished; its files are not looked at."""
    if not checkpoint.is_dir():
        return "no such directory"
    return None if read_json(checkpoint / MANIFEST).get("files") else f"no {MANIFEST}: the save did not finish"


def verify(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be trusted, or None when every file is what the manifest says, and none runs code.

    Nothing is unpickled for that.
    """
    if reason := unfinished(checkpoint):
        return reason
    files = read_json(checkpoint / MANIFEST)["files"]
    for name, entry in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {entry['size']}"
        if _checksum(file) != entry["xxh3_128"]:
            return f"{name} was damaged: its checksum differs from the manifest's"
    there = {str(file.relative_to(checkpoint)) for file in checkpoint.rglob("*") if file.is_file()}
    if strange := sorted(name for name in there - files.keys() if name.endswith(pickles.SUFFIXES)):
        return f"{strange[0]} is not in {MANIFEST}: no save has written it; delete it"
    for name in files:
        if name.endswith(pickles.SUFFIXES):
            try:
                called = pickles.foreign(checkpoint / name)
            except ValueError as error:
                return str(error)
            if called:
                return f"{name} would run {called} when it is loaded, which no checkpoint needs"
    return None


def fits(checkpoint: Path, layout: dict[str, Any] | None, world_size: int) -> bool:
    """Can ranks of this number, under this layout (see zero.layout), load a checkpoint as it is?"""
    manifest = read_json(checkpoint / MANIFEST)
    if manifest.get("layout", {}) != layout:
        return False
    return layout is None or manifest["world_size"] == world_size


def required_bytes(directory: Path, trainable: int) -> int:
    """About what the next checkpoint takes: as much as the newest, or 20 bytes for each trainable parameter.

    These are the weights for transformers and for DeepSpeed, a float32 copy and two moments of AdamW.
    """
    newest = newest_whole(directory)
    sizes = [entry["size"] for entry in read_json(newest / MANIFEST)["files"].values()] if newest else []
    return sum(sizes) or 20 * trainable


def state_bytes(checkpoint: Path) -> int:
    """What the states of the optimizer take, float32 weights included, which DDP keeps apart."""
    files = read_json(checkpoint / MANIFEST)["files"]
    return sum(entry["size"] for name, entry in files.items() if name.endswith("_optim_states.pt")) or sum(
        entry["size"] for name, entry in files.items() if name.endswith((".safetensors", "optimizer.pt"))
    )


def lack_of_space(directory: Path, needed: int, what: str = "a checkpoint") -> str | None:
    """A message when the disk of the checkpoints has not enough room for one more, or for what is made of one."""
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    last = newest_whole(directory)
    return (
        f"{directory}: {what} takes about {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free. Free some, "
        f"keep fewer with trainer.save_total_limit, or set paths.outputs to another disk; "
        f"{f'{last.name} is untouched' if last else 'there is no checkpoint yet'}, the same command goes on from there"
    )


def list_checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """(step, path) of every checkpoint-<step> directory, newest first, good or not."""
    if not directory.is_dir():
        return []
    found = ((step_of(path), path) for path in directory.iterdir() if path.is_dir())
    return sorted(((step, path) for step, path in found if step is not None), reverse=True)


def step_of(checkpoint: Path) -> int | None:
    """The step in a directory's name, None when it is not named checkpoint-<step>."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def newest_whole(directory: Path) -> Path | None:
    """The newest checkpoint that has a manifest, its files not verified."""
    return next((path for _, path in list_checkpoints(directory) if (path / MANIFEST).is_file()), None)


def newest_good(directory: Path) -> tuple[Verdict | None, list[Verdict]]:
    """The newest checkpoint that verifies, and those that were passed over, each with the reason."""
    passed_over: list[Verdict] = []
    for step, path in list_checkpoints(directory):
        verdict = Verdict(path, step, verify(path))
        if verdict.reason is None:
            return verdict, passed_over
        passed_over.append(verdict)
    return None, passed_over


def rotate(directory: Path, keep: int | None, protect: Iterable[Path] = ()) -> None:
    """Deletes whole checkpoints beyond the newest `keep` (None: keeps all), never one of `protect`.

    A directory without a manifest neither counts nor is deleted here, so a half-written save never costs a good one.
    """
    if keep is None:
        return
    protected = {path.resolve() for path in protect}
    whole = [path for _, path in list_checkpoints(directory) if (path / MANIFEST).is_file()]
    for path in whole[max(keep, 1) :]:
        if path.resolve() not in protected:
            discard(path)


def discard(checkpoint: Path) -> None:
    """Deletes a directory, if it is there, its manifest first: cut off, no checkpoint is left rather than a bad one."""
    if checkpoint.is_dir():
        (checkpoint / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)


def _checksum(file: Path) -> str:
    state = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            state.update(block)
    return state.hexdigest()


def saved_as(parameter: str, saved: Container[str]) -> str | None:
    """A parameter's name among those saved, which peft shortens by its adapter's; None where it is not among them."""
    return next((name for name in (parameter, parameter.replace(".default", "")) if name in saved), None)


def renamed(checkpoint: Path) -> str | None:
    """A parameter that a checkpoint of DDP has under another name, as transformers saves some mixtures of experts."""
    parameters = read_json(checkpoint / PARAMETERS).get("names", [])
    saved: set[str] = set()
    try:
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                saved.update(tensors.keys())
    except (OSError, SafetensorError):  # it is damaged, and will be passed over for that
        return None
    return next((name for name in parameters if saved_as(name, saved) is None), None)
