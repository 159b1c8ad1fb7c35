"""The files behind a source, and how rows are kept in them."""

import glob
import os
import re
from pathlib import Path

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.streams import COMPRESSED, json_kind
from trainyard.errors import DataError

FORMATS = ("text", "jsonl", "json", "parquet", "hub")
"""The formats of text, and how rows of any format are kept."""

_OTHER_COMPRESSION = (".bz2", ".xz", ".zip", ".7z", ".lz4", ".br")
_PACKED = (*COMPRESSED, *_OTHER_COMPRESSION)

_GLOB = set("*?[")

_ROWS = (".jsonl", ".ndjson", ".json", ".parquet")
"""Endings of files with rows, before those of compression."""

_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files with which the datasets library describes the rows beside them."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def files(source: SourceConfig) -> list[Path]:
    """The files behind a source, sorted, so that the order does not depend on the file system.

    Raises:
        DataError: no file matches, or files cannot be read (the first ten are named).
    """
    if problem := remote_problem(source.path):
        raise DataError(f"{source.path}: {problem}")
    try:
        path = Path(source.path).expanduser()
        if path.is_dir():
            found = _with_rows(_walk(path)) if source.format != "text" else _walk(path)
        elif _GLOB & set(source.path) and not path.exists():
            names = glob.glob(_pattern(path), recursive=True)  # noqa: PTH207, it may be absolute
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


def remote_problem(path: str) -> str | None:
    """What is wrong with an address like s3://bucket/folder in place of a path; None for a path or an id of the hub."""
    scheme = _SCHEME.match(path)
    if scheme is None:
        return None
    kind = "on the web" if scheme[1].lower() in ("http", "https", "ftp") else f"in an object store ({scheme[1]})"
    return f"lies {kind}, which is neither read nor written; copy it to this machine, or mount it"


def _pattern(path: Path) -> str:
    """The path as a glob, in which folders that are there mean themselves, whatever brackets their names have."""
    there = next(parent for parent in path.parents if parent.is_dir() or parent == parent.parent)
    rest = path.relative_to(there)
    return str(rest) if there == Path() else f"{glob.escape(str(there))}{os.sep}{rest}"


def _with_rows(found: list[Path]) -> list[Path]:
    """The files of a folder that hold rows, without the README and the like beside them; all, if none ends so."""
    rows = [file for file in found if _ending(file) in _ROWS and file.name not in _DESCRIPTIONS]
    return rows or found


def _ending(file: Path) -> str:
    """The last suffix that does not tell of a compression, in lower case."""
    return next((suffix.lower() for suffix in reversed(file.suffixes) if suffix.lower() not in _PACKED), "")


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
    is_name = not suffixes and not _GLOB & set(source.path) and not _SCHEME.match(source.path)
    if not file and is_name and not path.exists():
        return "hub"
    kept = {".json": "json", ".parquet": "parquet"}.get(suffixes[-1] if suffixes else "", "jsonl")
    return (json_kind(file) if file and kept != "parquet" else None) or kept
