"""The commands of several points side by side, each on its share of the machine's devices and cores."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.config.overrides import spelled
from trainyard.config.stages import STAGES
from trainyard.machine.devices import Devices
from trainyard.machine.processes import end_with_parent, python
from trainyard.sweeps.grid import Point


@dataclass(frozen=True)
class Slot:
    """The share of the machine that one run may use."""

    devices: int
    """Number of ranks."""
    gpus: tuple[int, ...]
    """Indices of GPUs; empty on a CPU."""
    cores: tuple[int, ...]
    """Numbers of CPU cores."""


def slots(devices: Devices, total: int, per_job: int | None) -> list[Slot]:
    """Divides `total` devices into slots of `per_job` each; None gives one slot with all.

    The CPU cores are divided too. If that left a slot with fewer cores than ranks, all slots share all cores.
    """
    each = per_job or total
    count = max(1, total // each)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    share = len(cores) // count
    result = []
    for number in range(count):
        gpus = devices.indices[number * each : (number + 1) * each] if devices.on_gpu else ()
        own = cores[number * share : (number + 1) * share] if share >= each else cores
        result.append(Slot(each, tuple(gpus), own))
    return result


@dataclass
class Pool:
    """Starts the command of a point in a free slot, and tells which commands have ended."""

    stage: str
    sweep: str
    slots: list[Slot]
    logs: Path
    """Directory with a log per point: the output of its command."""
    running: dict[int, tuple[Point, "subprocess.Popen[bytes]"]] = field(default_factory=dict)
    """Points with their processes, by the number of their slot."""

    @property
    def is_full(self) -> bool:
        """Is a point running in every slot?"""
        return len(self.running) == len(self.slots)

    def start(self, point: Point) -> None:
        """Starts a point in the first free slot. Its command gets SIGTERM should this process die."""
        number = next(number for number in range(len(self.slots)) if number not in self.running)
        slot = self.slots[number]
        env = dict(os.environ)
        if slot.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, slot.gpus))

        def settle() -> None:  # runs in the child, before the command
            os.sched_setaffinity(0, slot.cores)
            end_with_parent(signal.SIGTERM)

        with (self.logs / f"{point.name}.log").open("ab") as log:
            process = subprocess.Popen(
                command(self.stage, self.sweep, point, slot.devices), env=env, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=settle,
            )  # fmt: skip
        self.running[number] = (point, process)

    def ended(self) -> Iterator[tuple[Point, int]]:
        """Points that have ended since the last call, with their exit codes."""
        for number, (point, process) in list(self.running.items()):
            if process.poll() is not None:
                del self.running[number]
                yield point, process.returncode

    def send(self, number: signal.Signals, only: Sequence[str] | None = None) -> None:
        """Sends a signal to the commands of all running points, or of those that `only` names."""
        for point, process in self.running.values():
            if only is None or point.name in only:
                process.send_signal(number)


def command(stage: str, sweep: str, point: Point, devices: int | None = None) -> list[str]:
    """The command of a point, on `devices` ranks; None leaves their number to the point's own overrides."""
    return python(STAGES[stage].module, *overrides(sweep, point, devices))


def overrides(sweep: str, point: Point, devices: int | None = None) -> list[str]:
    """The overrides of a point's command, the names of its sweep and its run included."""
    own = [f"run.sweep={spelled(sweep)}", f"run.name={spelled(point.name)}"]
    placed = [f"launch.num_devices={devices}"] if devices else []
    rest = [item for item in point.overrides if not (devices and item.startswith("launch.num_devices="))]
    return [*rest, *placed, *own]
