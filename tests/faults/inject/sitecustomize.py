"""Put on the PYTHONPATH of a run, this breaks something in it: FAULT="kind rank steps", as "hang 1 5" for rank 1 when 5
steps are done, or "nan-loss 1 5-9" for rank 1 in each of five steps. Several faults are
parted by semicolons.

The fault happens once for each file named by FAULT_ONCE, which is made when it does; without one, every time.
"""

import contextlib
import hashlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import bad_numbers


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module once it is imported."""

    def __init__(self, name: str, action: Any):
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def happens() -> bool:
    once = os.environ.get("FAULT_ONCE")
    if once and Path(once).exists():
        return False
    if once:
        Path(once).touch()
    return True


def before(method: str, rank: int, step: int, action: Any) -> Any:
    """Wraps a method of the Trainer: `action()` comes before it on a rank once `step` steps are done."""

    def patch(module: ModuleType) -> None:
        original = getattr(module.Trainer, method)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.split.rank == rank and self.state.global_step == step and happens():
                action()
            return original(self, *args, **kwargs)

        setattr(module.Trainer, method, wrapped)

    return patch


def hang() -> None:
    while True:
        time.sleep(1000)


def fail() -> None:
    raise RuntimeError("injected")


def send(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


def hold() -> None:
    """Waits for the file FAULT_HOLD to be there; that it does so is told by another, with .begun as its suffix."""
    release = Path(os.environ["FAULT_HOLD"])
    release.with_suffix(".begun").touch()
    while not release.exists():
        time.sleep(0.02)


def fill() -> None:
    """Leaves no room on the disk of FAULT_FILL."""
    with contextlib.suppress(OSError), Path(os.environ["FAULT_FILL"]).open("wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)


def in_writer(rank: int, step: int) -> Any:
    """SIGKILL when a rank has put all of its files on the disk, and the manifest is not there yet."""

    def patch(module: ModuleType) -> None:
        original = module.Saver._note_written

        def note_written(self: Any, target: Path) -> None:
            if self.split.rank == rank and target.name == f"checkpoint-{step}" and happens():
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, target)

        module.Saver._note_written = note_written

    return patch


def record(module: ModuleType) -> None:
    """No fault: every rank notes in FAULT_SEEN at which step it trains on what, a line a sequence."""
    original = module.Trainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        with Path(os.environ["FAULT_SEEN"]).open("a") as stream:
            for row in inputs["input_ids"].tolist():
                digest = hashlib.sha1(str(row).encode()).hexdigest()
                stream.write(f"{self.split.rank} {self.state.global_step} {digest}\n")
        return original(self, model, inputs, *args, **kwargs)

    module.Trainer.compute_loss = compute_loss


def stop_in_backward(rank: int, step: int) -> Any:
    """SIGTERM in the backward pass of a step's last micro batch, in which DeepSpeed steps its optimizer."""

    def patch(module: ModuleType) -> None:
        original = module.Trainer.compute_loss

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = original(self, *args, **kwargs)
            due = self.split.rank == rank and self.state.global_step == step
            if due and self.model.training and self.accelerator.sync_gradients and happens():
                loss.register_hook(lambda gradient: os.kill(os.getpid(), signal.SIGTERM))
            return loss

        module.Trainer.compute_loss = compute_loss

    return patch


def stop_after_update(rank: int, step: int) -> Any:
    """SIGTERM as soon as AdamW has changed the weights, before anything knows that the step is done."""

    def patch(module: ModuleType) -> None:
        import torch

        update, original = torch.optim.AdamW.step, module.Trainer.training_step
        now = []

        def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
            now[:] = [self.split.rank, self.state.global_step]
            return original(self, *args, **kwargs)

        def update_and_stop(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = update(self, *args, **kwargs)
            if now == [rank, step] and happens():
                os.kill(os.getpid(), signal.SIGTERM)
            return result

        module.Trainer.training_step = training_step
        torch.optim.AdamW.step = update_and_stop

    return patch


def kill_all() -> None:
    """SIGKILL to the controller, to the launcher and to every rank, this one last."""
    own, me = os.getsid(0), os.getpid()
    os.kill(int(os.environ["TRAINYARD_CONTROLLER"].split()[1]), signal.SIGKILL)
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(ProcessLookupError):
            if pid != me and os.getsid(pid) == own:
                os.kill(pid, signal.SIGKILL)
    os.kill(me, signal.SIGKILL)


def kill_at_write(rank: int, step: int) -> None:
    """Everything is killed when a rank writes to a checkpoint for the FAULT_WRITE-th time: opens a file to write to,
    which then has some bytes only, or is about to give a file its name. What Rust writes, tokenizer.json, is not
    counted.
    """
    if os.environ.get("RANK") != str(rank):
        return
    left = int(os.environ["FAULT_WRITE"])

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.rename") or f"/checkpoint-{step}/" not in str(arguments[0]):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        left -= 1
        if left == 0:
            if event == "open":
                Path(arguments[0]).write_bytes(b"cut")
            kill_all()

    sys.addaudithook(look)


def break_tracker(kind: str, when: str) -> Any:
    """SwanLab fails or hangs from `when` on: from its start, from the line of a step, or at the end."""
    failing = {"tracker-fails": fail, "tracker-hangs": hang}[kind]

    def patch(module: ModuleType) -> None:
        import swanlab

        module.PATIENCE_S = 2.0  # type: ignore[attr-defined]
        if when in ("start", "end"):
            setattr(swanlab, {"start": "init", "end": "finish"}[when], lambda **kwargs: failing())
            return
        inner = swanlab.init

        def init(**kwargs: Any) -> Any:
            run = inner(**kwargs)
            log = run.log
            run.log = lambda values, step: failing() if step >= int(when) else log(values, step=step)
            return run

        swanlab.init = init

    return patch


def compile_extension() -> None:
    """As DeepSpeed does with parts of itself."""
    from torch.utils import cpp_extension

    cpp_extension.load("adam", [os.environ["FAULT_SOURCE"]], is_python_module=False, with_cuda=False)


FAULTS = {
    "compile": ("training_step", compile_extension),
    "fill": ("training_step", fill),
    "fill-in-save": ("_save_optimizer_and_scheduler", fill),
    "hang": ("training_step", hang),
    "hold-in-save": ("_save_optimizer_and_scheduler", hold),
    "fail": ("training_step", fail),
    "stop-in-forward": ("compute_loss", send(signal.SIGTERM)),
    "stop-in-evaluation": ("evaluation_loop", send(signal.SIGTERM)),
    "stop-in-save": ("_save_optimizer_and_scheduler", send(signal.SIGTERM)),
    "kill-in-save": ("_save_rng_state", send(signal.SIGKILL)),
}

PATCHES = {
    "kill-in-write": in_writer,
    "stop-in-backward": stop_in_backward,
    "stop-after-update": stop_after_update,
}
"""Those that need more than a place in the Trainer's methods, by rank and step."""


def inject(kind: str, number: str, steps: str) -> None:
    module = "trainyard.training.trainer"
    if kind.startswith("tracker-"):
        module, patch = "trainyard.tracking.callback", break_tracker(kind, steps)
    elif kind == "kill-at-write":
        return kill_at_write(int(number), int(steps))
    elif kind == "record":
        patch = record
    elif kind in PATCHES:
        module = "trainyard.checkpoint.save" if kind == "kill-in-write" else module
        patch = PATCHES[kind](int(number), int(steps))
    elif kind in bad_numbers.FAULTS:
        patch = bad_numbers.patch(kind, int(number), steps, happens)
    else:
        method, action = FAULTS[kind]
        patch = before(method, int(number), int(steps), action)
    sys.meta_path.insert(0, AfterImport(module, patch))
    return None


for fault in filter(None, os.environ.get("FAULT", "").split(";")):
    inject(*fault.split())
