"""A stand-in for Slurm: srun and scontrol as scripts, so that launch/slurm.sbatch runs without a cluster."""

import os
import subprocess
from pathlib import Path

from conftest import ROOT, clean_env
from disturb import Live

SRUN = """#!/usr/bin/env bash
shift  # --kill-on-bad-exit=0
for ((node = 0; node < SLURM_NNODES; node++)); do
    SLURM_NODEID=$node "$@" &
    pids[$node]=$!
    echo $! > "$STAND_IN/node-$node"
done
code=0
for pid in "${pids[@]}"; do
    while wait "$pid"; last=$?; kill -0 "$pid" 2>/dev/null; do :; done
    [ $last -gt $code ] && code=$last
done
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1" = show ] && echo 127.0.0.1 && echo 127.0.0.2
[ "$1" = requeue ] && touch "$STAND_IN/requeued-$2"
exit 0
"""


def submit(stand_in: Path, run: Path, *arguments: str, nodes: int = 2, **variables: str) -> Live:
    """Runs `launch/slurm.sbatch pretrain ...` as a job of Slurm would, with all nodes on this machine.

    Args:
        stand_in: a new folder for the scripts, and for files that record what happens: `node-1` holds the process id
            of a node's task, `requeued-<job>` appears when the job is put back into the queue.
        run: the run directory that the arguments name.
    """
    stand_in.mkdir()
    for tool, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (stand_in / tool).write_text(script)
        (stand_in / tool).chmod(0o755)
    job = {
        "SLURM_NNODES": str(nodes),
        "SLURM_JOB_NODELIST": "n[0-1]",
        "SLURM_JOB_ID": str(os.getpid()),
        "STAND_IN": str(stand_in),
        **variables,
    }
    env = clean_env(**job, SLURM_SUBMIT_DIR=str(ROOT), PATH=f"{stand_in}:{os.environ['PATH']}")
    process = subprocess.Popen(
        ["bash", str(ROOT / "launch" / "slurm.sbatch"), "pretrain", *arguments], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    return Live(process, run)
