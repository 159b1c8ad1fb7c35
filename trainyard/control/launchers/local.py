"""DeepSpeed's launcher on this node: its command line, its environment, and the processes it starts."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.machine import signals
from trainyard.machine.devices import Devices
from trainyard.machine.ports import free_port
from trainyard.machine.processes import START, python, session
from trainyard.rundir.directory import RunDir
from trainyard.start import DIRECTORY

OF_ANOTHER_LAUNCH = re.compile(
    r"(OMPI|OPAL|ORTE|PRTE|PMI|PMIX|PALS|MPI|MPICH|MV2|I_MPI|SLURM|TORCHELASTIC|PET|ACCELERATE|FSDP|MEGATRON_LM|FP8|"
    r"PARALLELISM_CONFIG)_.*|((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|NODE_RANK|CROSS_(RANK|SIZE)|LOCAL_SIZE|ROLE_NAME|"
    r"MASTER_(ADDR|PORT)"
)
"""Environment variables with which MPI, Slurm, torchrun and accelerate tell their processes what they are, as they are
left over in a shell. In a rank they would speak of another launch, and accelerate's would change the training."""


def command(config: Config, devices: Devices, run: RunDir, resume: Path | None) -> list[str]:
    """The launcher's command line.

    A rank gets the path of the run's config.yaml and, if it resumes, of a checkpoint: no override reaches a shell.
    """
    launch = config.launch
    rank = [STAGES[config.stage].rank_module, str(run.config)]
    if resume is not None:
        rank.append(str(resume))
    script = Path(sys.executable).with_name("deepspeed")
    return [
        *([str(script)] if script.exists() else python("deepspeed.launcher.runner")),
        "--no_local_rank",
        *_placement(config, devices, run),
        f"--master_port={launch.master_port or free_port()}",
        START,
        *rank,
    ]


def _placement(config: Config, devices: Devices, run: RunDir) -> list[str]:
    """The arguments that say which node this is and which of its devices the ranks use.

    DeepSpeed ignores CUDA_VISIBLE_DEVICES when it is given a number of GPUs, so the visible ones are named. Without a
    hostfile it would read /job/hostfile, so it gets an empty one.
    """
    launch = config.launch
    if launch.node_rank is not None:
        hostfile = (run.logs / f"hostfile-{launch.node_rank}").absolute()
        slots = [f"node-{number} slots={launch.num_devices}\n" for number in range(launch.num_nodes)]
        hostfile.write_text("".join(slots), encoding="utf-8")
        here = [f"--node_rank={launch.node_rank}", f"--master_addr={launch.master_addr}"]
        return [f"--hostfile={hostfile}", "--no_ssh", *here]
    if devices.on_gpu:
        indices = ",".join(map(str, devices.indices[: launch.num_devices]))
        return [f"--hostfile={os.devnull}", f"--include=localhost:{indices}"]
    return [f"--hostfile={os.devnull}", f"--num_gpus={launch.num_devices}"]


def environment(config: Config, devices: Devices) -> dict[str, str]:
    """The environment of the launcher and, through it, of every rank."""
    env = {name: value for name, value in os.environ.items() if not OF_ANOTHER_LAUNCH.fullmatch(name)}
    env["TRAINYARD_CONTROLLER"] = f"{socket.gethostname()} {os.getpid()}"
    env.setdefault("TOKENIZERS_PARALLELISM", "false")
    env.setdefault("OMP_NUM_THREADS", str(_threads(config, devices)))
    env["TRAINYARD_DEVICE"] = devices.kind
    if not devices.on_gpu:
        env["DS_ACCELERATOR"] = "cpu"
    return env


def _threads(config: Config, devices: Devices) -> int:
    """Threads per rank: CPU ranks share the cores; beside GPUs most cores are left to data workers and offloading."""
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // (config.launch.num_devices or 1)) if not devices.on_gpu else min(8, cores)


@dataclass
class LocalLaunch:
    """DeepSpeed's launcher and the ranks that it starts, in a session of their own; see launch.Launch."""

    launcher: subprocess.Popen[bytes]
    failed: bool = False
    """Always False: this launch has no other nodes."""
    lost: Sequence[str] = ()

    @property
    def code(self) -> int | None:
        """The launcher's exit code; None while it runs."""
        return self.launcher.poll()

    def own_processes(self) -> list[int]:
        """The launcher's command and the process that starts the ranks."""
        try:
            children = psutil.Process(self.launcher.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [self.launcher.pid, *(child.pid for child in children)]

    def end(self) -> None:
        """Ends the processes of the launch that are left on this node."""
        for process in session(self.launcher.pid):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.launcher.wait()


def start(arguments: list[str], env: dict[str, str], log: Path) -> LocalLaunch:
    """Starts the launcher in a session of its own, so that Ctrl-C in the terminal reaches the controller alone.

    It works in the folder of the log, and the ranks in this process's working directory: see trainyard.start.
    """
    env = env | {DIRECTORY: str(Path.cwd())}
    with log.open("wb") as stream, signals.held_back():
        return LocalLaunch(
            subprocess.Popen(
                arguments, env=env, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )
        )  # fmt: skip
