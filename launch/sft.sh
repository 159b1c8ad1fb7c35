#!/usr/bin/env bash
# Fine-tunes a language model on conversations: bash launch/sft.sh [overrides]   (bash launch/sft.sh --help lists them)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec python "$TRAINYARD_ROOT/trainyard/start.py" sft "$@"
