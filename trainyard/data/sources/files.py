"""The files behind a source, and how rows are kept in them."""

import glob
import os
from pathlib import Path

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.streams import COMPRESSED, json_kind
from trainyard.errors import DataError

FORMATS = ("text", "jsonl", "json", "parquet", "hub")
"""The formats of text, and how rows of any format are kept."""

_OTHER_COMPRESSION = (".bz2", ".xz", ".zip", ".7z", ".lz4", ".br")

_GLOB = set("*?[")


def files(source: SourceConfig) -> list[Path]:
    """The files behind a source, sorted, so that the order does not depend on the file system.

    Raises:
        DataError: no file matches, or files cannot be read (the first ten are named).
    """
    try:
        path = Path(source.path).expanduser()
        if path.is_dir():
            found = _walk(path)
        elif _GLOB & set(source.path) and not path.exists():
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207, it may be absolute
            found = [file for file in map(Path, sorted(names)) if not file.is_dir()]
        else:
            found = [path]
    except (OSError, ValueError, RuntimeError) as error:  # no permission, an impossible path, an unknown user
        raise DataError(f"{source.path}: {error}. data.sources names files that can be read") from error
    if not found:
        raise DataError(f"{source.path}: no file matches. Check the path, and quote a glob so that the shell leaves it")
    problems = [problem for file in found if (problem := _unreadable(file))]
    if problems:
        raise DataError(*problems[:10])
    once: dict[str, Path] = {}
    for file in found:  # ** may reach a file by several links
        once.setdefault(os.path.realpath(file), file)
    return list(once.values())


def _walk(directory: Path) -> list[Path]:
    """All files below a directory, without hidden files and directories."""

    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _unreadable(file: Path) -> str | None:
    """Why a file cannot be read; None if it can."""
    suffix = file.suffix.lower()
    if suffix in _OTHER_COMPRESSION or (suffix in COMPRESSED and file.suffix not in COMPRESSED):
        return f"{file}: compressed as {file.suffix}; {' and '.join(COMPRESSED)} are read, so compress it anew"
    if os.access(file, os.R_OK, effective_ids=True) and file.is_file():
        return None
    try:
        file.open("rb").close()
    except OSError as error:
        return f"{file}: {error.strerror}. data.sources names files that can be read"
    return f"{file}: not a regular file. data.sources names files that can be read more than once"


def is_remote(source: SourceConfig) -> bool:
    """Is the source a dataset on the hub, and not on this machine?"""
    return container(source) == "hub" and not Path(source.path).expanduser().exists()


def container(source: SourceConfig, file: str = "") -> str:
    """How the rows of a source, or of one file of it, are kept: one of FORMATS.

    A format of conversations says what a row holds, and the file's name how rows are kept: .json, .parquet, or else
    JSON lines. JSON is read as what it is: a list, or lines. A path that neither exists nor ends like a file is an id
    of the hub.
    """
    if source.format in ("json", "jsonl"):
        return (json_kind(file) if file else None) or source.format
    if source.format in FORMATS:
        return source.format
    if source.format == "docstrings":
        return "text"
    path = Path(file or source.path).expanduser()
    suffixes = [suffix for suffix in path.suffixes if suffix not in COMPRESSED]
    if not file and not suffixes and not _GLOB & set(source.path) and not path.exists():
        return "hub"
    kept = {".json": "json", ".parquet": "parquet"}.get(suffixes[-1] if suffixes else "", "jsonl")
    return (json_kind(file) if file and kept != "parquet" else None) or kept
