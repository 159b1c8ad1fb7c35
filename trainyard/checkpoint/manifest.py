"""trainyard.checkpoint.manifest."""

from pathlib import Path
from typing import Any

from trainyard.checkpoint import pickles
from trainyard.files import digest, read_json, write_json

MANIFEST = "manifest.json"


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
        name: known.get(name) or {"size": file.stat().st_size, "xxh3_128": digest(file)} for name, file in names.items()
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
        if digest(file) != entry["xxh3_128"]:
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


def state_bytes(checkpoint: Path) -> int:
    """What the states of the optimizer take, float32 weights included, which DDP keeps apart."""
    files = read_json(checkpoint / MANIFEST)["files"]
    return sum(entry["size"] for name, entry in files.items() if name.endswith("_optim_states.pt")) or sum(
        entry["size"] for name, entry in files.items() if name.endswith((".safetensors", "optimizer.pt"))
    )
