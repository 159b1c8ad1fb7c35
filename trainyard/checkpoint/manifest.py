"""manifest.json: the file that makes a directory a checkpoint, and by which its other files are trusted."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainyard.checkpoint import pickles
from trainyard.checkpoint.layout import Layout, ranks_under
from trainyard.files import digest, known, read_json, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """A file as it was written."""

    size: int
    """In bytes."""
    xxh3_128: str
    """Checksum of the content, in hexadecimal digits."""

    @classmethod
    def from_json(cls, name: str, value: Any) -> "FileEntry":
        """
        Raises:
            ValueError: the value is no object with a size and a checksum.
        """
        if not isinstance(value, dict):
            raise ValueError(f"the entry of {name} is no object")
        if not isinstance(value.get("size"), int) or not isinstance(value.get("xxh3_128"), str):
            raise ValueError(f"the entry of {name} has no size or no checksum")
        return cls(**known(cls, value))


@dataclass(frozen=True)
class Manifest:
    """Who wrote a checkpoint, under which settings, and every file of it."""

    step: int | None = None
    """Steps of the optimizer that were finished."""
    samples_seen: int | None = None
    """Sequences that all ranks have trained on, over the whole run."""
    world_size: int | None = None
    """Ranks that wrote the checkpoint."""
    zero_stage: int | None = None
    """0 under plain DDP."""
    layout: Layout | None = None
    """None when the manifest does not say: such a checkpoint fits no ranks as it is."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of trainyard and the libraries, by name."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """By path below the checkpoint; the manifest itself is not among them."""

    @classmethod
    def read(cls, checkpoint: Path) -> "Manifest | None":
        """The manifest of a checkpoint; None where there is none to rely on, see `unfinished`.

        Keys of another version are passed over. No other file is looked at.
        """
        try:
            return cls._parsed(read_json(checkpoint / MANIFEST))
        except ValueError:
            return None

    @classmethod
    def _parsed(cls, facts: dict[str, Any]) -> "Manifest | None":
        """
        Returns:
            None for a manifest that names no files: no save has written it.

        Raises:
            ValueError: a value is of the wrong type.
        """
        if not facts.get("files"):
            return None
        if not isinstance(facts["files"], dict):
            raise ValueError("files is no object")
        for name in ("step", "samples_seen", "world_size", "zero_stage"):
            if not isinstance(facts.get(name), int | None):
                raise ValueError(f"{name} is no whole number")
        files = {name: FileEntry.from_json(name, entry) for name, entry in facts["files"].items()}
        layout = Layout.from_json(facts["layout"]) if "layout" in facts else None
        return cls(**{**known(cls, facts), "files": files, "layout": layout})

    def write(self, checkpoint: Path) -> None:
        """Makes a directory a checkpoint. It is the last file of a save and is written in one step."""
        facts: dict[str, Any] = asdict(self)
        if self.layout is None:
            del facts["layout"]
        else:
            facts["layout"] = self.layout.to_json()
        write_json(checkpoint / MANIFEST, facts)

    @property
    def writers(self) -> str:
        """`2 ranks under ZeRO-2`."""
        return ranks_under(self.world_size, self.zero_stage)

    def fits(self, layout: Layout, world_size: int) -> bool:
        """Can so many ranks with this layout load the checkpoint as it is?"""
        return self.layout == layout and (not layout.stage or self.world_size == world_size)

    def state_bytes(self) -> int:
        """Bytes of the optimizer's states, with the weights in float32, which DDP keeps in files of their own."""
        sizes = {name: entry.size for name, entry in self.files.items()}
        return sum(size for name, size in sizes.items() if name.endswith("_optim_states.pt")) or sum(
            size for name, size in sizes.items() if name.endswith((".safetensors", "optimizer.pt"))
        )


def files_of(directory: Path) -> dict[str, Path]:
    """Every file below a directory but its manifest, by path below the directory."""
    files = {str(file.relative_to(directory)): file for file in sorted(directory.rglob("*")) if file.is_file()}
    files.pop(MANIFEST, None)
    return files


def entries(
    directory: Path, written: Mapping[str, FileEntry] | None = None, made: Collection[str] = ()
) -> dict[str, FileEntry]:
    """An entry for every file below a directory but its manifest.

    Args:
        written: entries of files that need not be read again, by path below the directory.
        made: further files that must be there.

    Raises:
        FileNotFoundError: a file of `written` or `made` is gone, or was changed since.
    """
    written, files = written or {}, files_of(directory)
    lost = [f"{name} is missing" for name in made if name not in files]
    lost += filter(None, (_missing(directory, name, entry) for name, entry in written.items()))
    if lost:
        raise FileNotFoundError(
            f"{directory}: {lost[0]}, though it was just written; somebody else deletes files there"
        )
    return {name: written.get(name) or FileEntry(file.stat().st_size, digest(file)) for name, file in files.items()}


def unfinished(checkpoint: Path) -> str | None:
    """Why a directory is no checkpoint; None when its save has finished. Files but the manifest are not looked at."""
    if not checkpoint.is_dir():
        return "no such directory"
    try:
        manifest = Manifest._parsed(read_json(checkpoint / MANIFEST))
    except ValueError as error:
        return f"{MANIFEST} is damaged: {error}"
    return None if manifest else f"no {MANIFEST}: the save did not finish"


def is_whole(checkpoint: Path) -> bool:
    """Has the save of a checkpoint finished, and does every file have its size? Only the manifest is read."""
    manifest = Manifest.read(checkpoint)
    return manifest is not None and not any(_missing(checkpoint, name, each) for name, each in manifest.files.items())


def verify(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be trusted; None when every file is as the manifest says and none would run code.

    Every file is read once; nothing is unpickled.
    """
    manifest = Manifest.read(checkpoint)
    if manifest is None:
        return unfinished(checkpoint)
    return _damage(checkpoint, manifest) or _stranger(checkpoint, manifest) or _code(checkpoint, manifest)


def _damage(checkpoint: Path, manifest: Manifest) -> str | None:
    for name, entry in manifest.files.items():
        if reason := _missing(checkpoint, name, entry):
            return reason
        if digest(checkpoint / name) != entry.xxh3_128:
            return f"{name} was damaged: its checksum differs from the manifest's"
    return None


def _missing(checkpoint: Path, name: str, entry: FileEntry) -> str | None:
    """Why a file is not there as a whole; None when its size is the manifest's."""
    try:
        size = (checkpoint / name).stat().st_size
    except OSError:
        return f"{name} is missing"
    return None if size == entry.size else f"{name} has {size} bytes instead of {entry.size}"


def _stranger(checkpoint: Path, manifest: Manifest) -> str | None:
    """A pickle that the save did not write: DeepSpeed would find it by its name and load it."""
    there = {str(file.relative_to(checkpoint)) for file in checkpoint.rglob("*") if file.is_file()}
    strangers = sorted(name for name in there - manifest.files.keys() if name.endswith(pickles.SUFFIXES))
    return f"{strangers[0]} is not in {MANIFEST}: no save has written it; delete it" if strangers else None


def _code(checkpoint: Path, manifest: Manifest) -> str | None:
    for name in manifest.files:
        if name.endswith(pickles.SUFFIXES):
            try:
                called = pickles.foreign(checkpoint / name)
            except ValueError as error:
                return str(error)
            if called:
                return f"{name} would run {called} when it is loaded, which no checkpoint needs"
    return None
