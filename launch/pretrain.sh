#!/usr/bin/env bash
# Pretrains a language model: bash launch/pretrain.sh [overrides]   (bash launch/pretrain.sh --help lists them)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec python "$TRAINYARD_ROOT/trainyard/start.py" pretrain "$@"
