"""The surroundings of every process of ours, made the same for all: what Python imports, and how it reads text.

    python trainyard/start.py MODULE [arguments]

runs a module as `python -m MODULE` does. The scripts in launch/ start the commands in this way, and these their helpers
and ranks. `python -m trainyard` and the command `trainyard` are settled by the first import of trainyard.

Before `settle` has put the path right, any import may find a file of the user. So nothing is imported here that Python
has not loaded by itself.
"""

# ruff: noqa: PTH100, PTH109, PTH112, PTH118, PTH119, PTH120
# pathlib is not loaded yet.

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

DIRECTORY = "TRAINYARD_DIRECTORY"
"""Environment variable with the working directory for a process that was started in another one. DeepSpeed's launcher
runs `python -m`, which would import what lies in the user's working directory."""

OTHER = "-packages"
"""How the names of the folders end that hold installed packages: site-packages, dist-packages."""


def settle_program() -> None:
    """Calls `settle` while Python looks for the program of `python -m trainyard`, and in the command `trainyard`.

    Where another program imports trainyard, nothing is changed.
    """
    program = os.path.basename((sys.argv or [""])[0])
    if program in ("-m", "trainyard"):
        settle()


def settle() -> None:
    """Makes the surroundings of this process, and of the processes that it starts, independent of where it is started.

    - No file of the working directory is imported, and of several trainyards the one of this file is. (`python -P`
      does a part of it, from Python 3.11 on.)
    - All text is UTF-8, whatever the locale. Where that needs another start of Python the process executes itself.

    Ends the process with exit code 2 and a sentence where nothing can work: under `python -O`, in a working directory
    that is gone, and with an argument that is no text.
    """
    if sys.flags.optimize:
        raise _refused("python -O (or PYTHONOPTIMIZE) switches off checks on which a training relies; start without it")
    try:
        directory = os.getcwd()
    except OSError:
        raise _refused("the working directory is gone; change to one that exists (cd)") from None
    is_set = os.environ.get("PYTHONUTF8") == "1"
    os.environ["PYTHONUTF8"] = "1"
    if os.environ.pop("PYTHONIOENCODING", "") or (sys.getfilesystemencoding() != "utf-8" and not is_set):
        words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, [os.fsencode(word) for word in words], os.environ)
    _settle_path(directory)
    sys.argv[:] = map(_text, sys.argv)
    if unreadable := [word for word in [directory, *sys.argv] if not _is_text(word)]:
        shown = ascii(os.fsencode(unreadable[0]))[1:]
        raise _refused(f"{shown}: these bytes are no text in UTF-8; use a terminal in UTF-8, and rename such files")


def _settle_path(directory: str) -> None:
    """Takes the working directory and other copies of trainyard off Python's path, and puts ROOT behind its library."""

    def is_foreign(entry: str) -> bool:
        place = os.path.abspath(entry)
        of_ours = os.path.isdir(os.path.join(place, "trainyard")) and not place.endswith(OTHER)
        return of_ours or place in (directory, os.path.join(ROOT, "trainyard"))

    path = [entry for entry in sys.path if not is_foreign(entry)]
    if not ROOT.endswith(OTHER):
        path.insert(next((i for i, entry in enumerate(path) if entry.endswith(OTHER)), len(path)), ROOT)
    sys.path[:] = path
    given = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    if kept := [os.path.abspath(entry) for entry in given if entry and not is_foreign(entry)]:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    os.environ["PYTHONSAFEPATH"] = "1"  # for what libraries start


def _text(word: str) -> str:
    """An argument whose bytes are no UTF-8 as the text that the user's locale has for them, where it has one."""
    if _is_text(word):
        return word
    import locale

    try:
        return os.fsencode(word).decode(locale.nl_langinfo(locale.CODESET))
    except (UnicodeDecodeError, LookupError):
        return word


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # Python writes bytes that it cannot decode as surrogates
        return False
    return True


def _refused(sentence: str) -> SystemExit:
    print(f"error: {sentence}", file=sys.stderr)
    return SystemExit(2)


def main() -> None:
    """Runs the module that is named in sys.argv."""
    if directory := os.environ.pop(DIRECTORY, None):
        os.chdir(directory)
    settle()
    del sys.argv[0]
    import runpy

    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
