#!/usr/bin/env bash
# Serves the SwanLab dashboard of all runs below a folder of outputs:
#   bash launch/dashboard.sh [OUTPUTS] [options of swanlab watch, as --port 5092]
# OUTPUTS is by default the paths.outputs of conf/local.yaml, or else outputs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    outputs=$1
    shift
else
    outputs=$(python "$TRAINYARD_ROOT/trainyard/start.py" trainyard.config.local) || exit 2
fi
if [ ! -d "$outputs/swanlog" ]; then
    echo "dashboard: there is no $outputs/swanlog. Start a run first (bash launch/pretrain.sh), or name its paths.outputs" >&2
    exit 2
fi
exec swanlab watch "$outputs/swanlog" "$@"
