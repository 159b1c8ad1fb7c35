#!/usr/bin/env bash
# Runs the tests: bash launch/test.sh [pytest arguments]
set -euo pipefail
export TRAINYARD_EXTRAS=dev
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$TRAINYARD_ROOT"
exec python -m pytest "$@"
