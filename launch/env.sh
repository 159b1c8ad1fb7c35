# Every script in launch/ sources this file. It finds or makes the Python environment and puts it first on PATH:
#
#   1. an active environment (venv or conda) with the project installed, unchanged;
#   2. otherwise the .venv of the checkout. It is made from pyproject.toml and constraints.txt if it is missing, if one
#      of these files has changed, or if an earlier install did not finish;
#   3. without a .venv, as in a container, a python3 on PATH that has the project installed.
#
# TRAINYARD_EXTRAS=dev adds the tools that the tests need. Set PYTHON to choose the interpreter that makes .venv.

TRAINYARD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export TRAINYARD_ROOT

_trainyard_say() { printf 'env: %s\n' "$*" >&2; }

# Is the project installed for this interpreter? Asked from /, so that a checkout in the current folder does not count.
_trainyard_installed() {
    (cd / && "$1" -c 'import importlib.metadata as m; m.version("trainyard"); m.version("deepspeed")') 2>/dev/null
}

# The stamp of a finished install is a copy of its inputs, so the comparison needs no hashing and no Python. The path of
# the checkout is one of them: the scripts in .venv/bin name their interpreter by its full path.
_trainyard_recipe() { printf 'place %s\nextras %s\n' "$TRAINYARD_ROOT" "$1"; cat "$TRAINYARD_ROOT/pyproject.toml" "$TRAINYARD_ROOT/constraints.txt"; }

_trainyard_current() {
    local extras
    [ -x "$TRAINYARD_ROOT/.venv/bin/python" ] || return 1
    for extras in "$1" dev; do # an environment with the dev tools serves the other scripts too
        _trainyard_recipe "$extras" | cmp -s - "$TRAINYARD_ROOT/.venv/installed" && return 0
    done
    return 1
}

_trainyard_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

_trainyard_pip() { # quiet; after a failure it shows the last lines of pip's output. -I: no file of the user is imported
    local log=$TRAINYARD_ROOT/.venv/install.log
    "$TRAINYARD_ROOT/.venv/bin/python" -I -m pip --disable-pip-version-check "$@" >"$log" 2>&1 && return 0
    _trainyard_say "pip failed; the last lines of .venv/install.log:"
    grep -v '^WARNING' "$log" | tail -n 15 >&2
    return 1
}

_trainyard_install() (
    extras=$1 venv=$TRAINYARD_ROOT/.venv
    # Of two first starts at the same time, the second waits and finds the work done.
    if command -v flock >/dev/null; then
        exec 9>"$TRAINYARD_ROOT/.venv.lock"
        flock -n 9 || { _trainyard_say "another start is installing; waiting for it"; flock 9; }
        if _trainyard_current "$extras"; then return 0; fi
    fi
    python=$(_trainyard_python) || {
        _trainyard_say "no Python >= 3.10 was found on PATH. Install one, or set PYTHON=/path/to/python3"
        return 1
    }
    started=$SECONDS
    if grep -qsx "place $TRAINYARD_ROOT" "$venv/installed" && "$venv/bin/python" -I -m pip --version >/dev/null 2>&1; then
        _trainyard_say "updating .venv: pyproject.toml, constraints.txt or the wanted extras have changed"
        rm "$venv/installed"
    else
        # Without a stamp an install was cut off. Half-copied packages look like whole ones, so everything starts clean.
        [ -d "$venv" ] && _trainyard_say "the last install did not finish; starting it again"
        _trainyard_say "making .venv with $("$python" --version) (once; takes a few minutes)"
        "$python" -I -m venv --clear "$venv" || {
            _trainyard_say "python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
            return 1
        }
    fi
    cd "$TRAINYARD_ROOT" || return 1
    _trainyard_say "installing torch"
    _trainyard_pip install -c constraints.txt setuptools torch || return 1
    _trainyard_say "installing transformers, deepspeed, datasets, swanlab and the rest"
    _trainyard_pip install -c constraints.txt -e ".${extras:+[$extras]}" || return 1
    # The stamp is written last, and in one move: an install that was cut off never has one.
    _trainyard_recipe "$extras" >"$venv/installed.new" && mv "$venv/installed.new" "$venv/installed" || return 1
    _trainyard_say "ready after $((SECONDS - started)) s"
)

_trainyard_use() { # a venv or conda prefix
    export PATH="$1/bin:$PATH"
}

_trainyard_main() {
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} extras=${TRAINYARD_EXTRAS:-}
    if [ -n "$active" ] && [ "$active" != "$TRAINYARD_ROOT/.venv" ] && _trainyard_installed "$active/bin/python"; then
        _trainyard_use "$active"
        return 0
    fi
    if ! _trainyard_current "$extras"; then
        if [ ! -d "$TRAINYARD_ROOT/.venv" ] && _trainyard_installed python3; then return 0; fi
        _trainyard_install "$extras" || return 1
    fi
    _trainyard_use "$TRAINYARD_ROOT/.venv"
    export VIRTUAL_ENV="$TRAINYARD_ROOT/.venv"
}

_trainyard_main || exit 2
export PYTHONUTF8=1 # text is UTF-8, whatever the locale
export PYTHONPATH="$TRAINYARD_ROOT${PYTHONPATH:+:$PYTHONPATH}"
