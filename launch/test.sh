#!/usr/bin/env bash
# Runs the tests: bash launch/test.sh [pytest arguments]   Without arguments it runs CI's tests, several files at a time.
set -euo pipefail
export TRAINYARD_EXTRAS=dev
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$TRAINYARD_ROOT"
if [ $# -eq 0 ]; then
    workers=$(($(nproc) / 4))
    set -- --numprocesses $((workers < 2 ? 2 : workers > 8 ? 8 : workers)) --dist loadfile
fi
exec python -m pytest "$@"
