"""The files behind a source, and what is said about those that cannot be read."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.files import files, is_remote
from trainyard.errors import DataError


def source(path: Path | str, form: str, **options: object) -> SourceConfig:
    return SourceConfig(path=str(path), format=form, **options)  # type: ignore[arg-type]


def test_globs_and_directories_are_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "in/c"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / ".hidden.txt").write_text("x")
    assert files(source(tmp_path / "*.txt", "text")) == [tmp_path / "a.txt", tmp_path / "b.txt"]
    everything = [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "in" / "c.txt"]
    assert files(source(tmp_path, "text")) == everything
    assert files(source(tmp_path / "**" / "*.txt", "text")) == everything


def test_a_directory_is_read_without_what_is_hidden_and_no_file_twice(tmp_path: Path) -> None:
    for name in (".git/HEAD", "in/.cache/x", "in/a.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert files(source(tmp_path, "text")) == [tmp_path / "b.txt", tmp_path / "in" / "a.txt"]
    found = files(source(tmp_path / "**" / "*.txt", "text"))
    assert sorted(file.resolve() for file in found) == [tmp_path / "b.txt", tmp_path / "in" / "a.txt"]


def test_a_name_that_looks_like_a_glob_is_a_name_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "data[1] v2.txt").write_text("x")
    assert files(source(tmp_path / "data[1] v2.txt", "text")) == [tmp_path / "data[1] v2.txt"]


def test_folders_with_brackets_mean_themselves_before_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs [v2]" / "part[1]"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("{}")
    (folder / "b[1].jsonl").write_text("{}")
    everything = [folder / "a.jsonl", folder / "b[1].jsonl"]
    assert files(source(folder / "*.jsonl", "jsonl")) == everything
    assert files(source(tmp_path / "runs [v2]" / "**" / "*.jsonl", "jsonl")) == everything
    assert files(source(tmp_path / "*" / "*" / "*[]].jsonl", "jsonl")) == everything[1:]
    monkeypatch.chdir(folder)
    assert files(source("*.jsonl", "jsonl")) == [Path("a.jsonl"), Path("b[1].jsonl")]
    monkeypatch.chdir(tmp_path)
    assert files(source("runs [v2]/part[1]/a.*", "jsonl")) == [Path("runs [v2]/part[1]/a.jsonl")]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "messages"])
def test_what_describes_a_data_set_is_not_read_as_its_rows(tmp_path: Path, form: str) -> None:
    for name in ("README.md", "LICENSE", "dataset_infos.json", "state.json", "convert.py", "in/a.jsonl.gz", "b.JSON"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert files(source(tmp_path, form)) == [tmp_path / "b.JSON", tmp_path / "in" / "a.jsonl.gz"]
    assert len(files(source(tmp_path, "text"))) == 7, "any file may be text"
    for name in ("in/a.jsonl.gz", "b.JSON"):
        (tmp_path / name).unlink()
    (tmp_path / "rows.data").write_text("x")
    (tmp_path / "state.json").unlink()
    (tmp_path / "dataset_infos.json").unlink()
    assert tmp_path / "rows.data" in files(source(tmp_path, form)), "without an ending to go by, all are read"


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("s3://b/x.jsonl", r"an object store \(s3\)"),
        ("oss://b", "oss"),
        ("gs://b/*.jsonl", "gs"),
        ("https://h/x", "the web"),
    ],
)
@pytest.mark.parametrize("form", ["text", "parquet", "messages"])
def test_an_address_is_named_as_such(path: str, where: str, form: str) -> None:
    assert not is_remote(source(path, form)), "it is no id of the hub"
    with pytest.raises(DataError, match=rf"{re.escape(path)}: lies (in|on) .*{where}.*copy it to this machine"):
        files(source(path, form))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "packed.txt.bz2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"gone.txt: No such file") as caught:
        files(source(tmp_path, "text"))
    assert "packed.txt.bz2: compressed as .bz2; .gz and .zst are read" in str(caught.value)
    with pytest.raises(DataError, match=r"data\.sources names files"):
        files(source("~nosuchuser/x", "text"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        files(source(tmp_path / "*.md", "text"))
    with pytest.raises(DataError, match=r"gone.txt: No such file"):
        files(source(tmp_path / "gone.txt", "text"))


def test_files_that_may_not_be_read_are_named_the_first_ten(unprivileged: Path) -> None:
    for number in range(12):
        (unprivileged / f"{number:02d}.txt").write_text("x")
        (unprivileged / f"{number:02d}.txt").chmod(0)
    with pytest.raises(DataError) as caught:
        files(source(unprivileged / "*.txt", "text"))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "Permission denied. data.sources names files that can be read"
    ] * 10


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user without privileges, as whom the test runs if root started it."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)
