"""Commands start the same wherever they are started: no file of the user is imported, and all text is UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

from trainyard.machine.processes import python

WITHOUT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Python reads files as ASCII, as it reads them as GBK under a GBK locale."""

SURROUNDINGS = """
import json, os, subprocess, sys
child = [sys.executable, "-c", "import sys; print(sys.flags.utf8_mode)"]
print(json.dumps({"file": open(sys.argv[1]).read(), "words": sys.argv[1:], "path": sys.path, "env": dict(os.environ),
    "out": sys.stdout.encoding, "child": subprocess.run(child, capture_output=True, text=True).stdout}))
"""


def run(words: list[str], cwd: Path, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(words, cwd=cwd, env=clean_env(**variables), capture_output=True)


def surroundings(folder: Path, *words: str | bytes, **variables: str) -> dict[str, object]:
    """What a module sees that is started in a folder, on whose path it lies; its first argument is a file to read."""
    place = folder / "modules"
    place.mkdir(exist_ok=True)
    (place / "shows.py").write_text(SURROUNDINGS)
    path = os.pathsep.join([*filter(None, [variables.get("PYTHONPATH")]), str(place)])
    command = [*map(os.fsencode, python("shows")), *map(os.fsencode, words)]
    done = subprocess.run(
        command, cwd=folder, env=clean_env(**variables) | {"PYTHONPATH": path}, capture_output=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("given", ["", ":", ".", "here"])
def test_no_file_of_the_working_directory_is_imported(tmp_path: Path, given: str) -> None:
    started = {name.partition(".")[0] for name in sys.modules if name in sys.stdlib_module_names}
    names = {"pretrain", "sft", "trainyard", "token", "yaml", "rich", "psutil", "filelock", "numpy", *started}
    path = str(tmp_path) if given == "here" else given
    for name in names if given in ("", "here") else {"token", "trainyard", "sft", "yaml"}:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')\n")
    variables = {"PYTHONPATH": path} if given != "here" else {}
    done = run(python("trainyard", "runs", "list"), tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert b"there are no runs in outputs" in done.stdout
    done = run(python("sft", "--cfg", "job"), tmp_path, **variables)
    assert done.stdout.startswith(b"stage: sft"), done.stderr


def test_a_verb_typed_as_a_module_imports_none_either(tmp_path: Path) -> None:
    for name in ("token", "yaml", "rich", "platform", "tempfile", "sft"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')\n")
    done = run([sys.executable, "-m", "trainyard", "runs", "list"], tmp_path, PYTHONPATH=str(ROOT))
    assert b"there are no runs in outputs" in done.stdout, done.stderr


def test_the_path_that_children_get_has_neither_the_working_directory_nor_another_trainyard(tmp_path: Path) -> None:
    other = tmp_path / "checkout"
    (other / "trainyard").mkdir(parents=True)
    (other / "trainyard" / "__init__.py").write_text("raise SystemExit('another trainyard was imported')\n")
    file = tmp_path / "text"
    file.write_text("")
    found = surroundings(tmp_path, str(file), PYTHONPATH=os.pathsep.join([str(other), "", ".", str(tmp_path)]))
    assert found["env"]["PYTHONPATH"] == str(tmp_path / "modules")  # type: ignore[index]
    path = found["path"]
    assert isinstance(path, list) and str(ROOT) in path
    assert not {"", ".", str(tmp_path), str(other), str(ROOT / "trainyard")} & set(path)
    library = next(number for number, entry in enumerate(path) if Path(entry, "token.py").is_file())
    packages = next(number for number, entry in enumerate(path) if entry.endswith("-packages"))
    assert library < path.index(str(ROOT)) < packages


def test_another_program_that_imports_trainyard_is_left_as_it_is(tmp_path: Path) -> None:
    code = "import os, sys; before = [*sys.path], dict(os.environ); import trainyard, pretrain\n"
    code += "print(before == (sys.path, dict(os.environ)))"
    done = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout == b"True\n", done.stderr


def locale_of_gbk() -> str | None:
    """The name of a locale in GBK that is installed."""
    there = subprocess.run(["locale", "-a"], capture_output=True).stdout.decode(errors="replace").split()
    return next((name for name in there if "gb" in name.lower().partition(".")[2]), None)


@pytest.mark.parametrize("where", ["ascii", "gbk", "output in gbk"])
def test_text_is_utf8_whatever_the_locale(tmp_path: Path, where: str) -> None:
    if where == "gbk" and not locale_of_gbk():
        pytest.skip("no locale in GBK is installed")
    variables = {"ascii": WITHOUT_UTF8, "gbk": {"LC_ALL": locale_of_gbk() or ""}}.get(
        where, {"PYTHONIOENCODING": "gbk"}
    )
    file = tmp_path / "语料.txt"
    file.write_text("训练 🚂", encoding="utf-8")
    found = surroundings(tmp_path, "语料.txt", "run.name=中文", **variables)
    assert found["file"] == "训练 🚂"
    assert found["words"] == ["语料.txt", "run.name=中文"]
    assert found["out"] == "utf-8" and found["child"] == "1\n"


def test_bytes_of_the_locale_are_the_text_that_they_are_there(tmp_path: Path) -> None:
    name = locale_of_gbk()
    if name is None:
        pytest.skip("no locale in GBK is installed")
    (tmp_path / "text").write_text("")
    found = surroundings(tmp_path, "text", "run.name=中文".encode("gbk"), LC_ALL=name)
    assert found["words"] == ["text", "run.name=中文"]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    words: list[str | bytes] = [*python("sft"), b"run.name=\xd6\xd0\xff"]
    done = subprocess.run(words, cwd=tmp_path, env=clean_env(LC_ALL="C"), capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(r"error: 'run.name=\xd6\xd0\xff': these bytes are no text in UTF-8; use")
    folder = os.fsencode(tmp_path) + b"/\xd6\xd0"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    done = subprocess.run(python("sft"), cwd=folder, env=clean_env(), capture_output=True)
    assert done.returncode == 2 and rb"\xd6\xd0': these bytes are no text in UTF-8" in done.stderr


def test_a_working_directory_that_is_gone_is_refused(tmp_path: Path) -> None:
    for start in ('bash "$1/launch/sft.sh"', "exec python -m trainyard runs list"):
        script = f"mkdir gone; cd gone; rmdir ../gone; {start}"
        done = run(["bash", "-c", script, "sh", str(ROOT)], tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == 2
        assert done.stderr.decode().splitlines()[-1] == (
            "error: the working directory is gone; change to one that exists (cd)"
        )


def test_python_without_assertions_is_refused(tmp_path: Path) -> None:
    for words, variables in (([sys.executable, "-O", "-m", "sft"], {}), (python("sft"), {"PYTHONOPTIMIZE": "2"})):
        done = run(words, tmp_path, PYTHONPATH=str(ROOT), **variables)
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: python -O (or PYTHONOPTIMIZE) switches off checks")


def test_a_process_goes_to_the_directory_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "text").write_text("here")
    assert surroundings(tmp_path, "text", TRAINYARD_DIRECTORY=str(tmp_path / "there"))["file"] == "here"
