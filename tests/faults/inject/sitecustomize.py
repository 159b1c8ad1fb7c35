"""On the PYTHONPATH of a run this breaks something in it: FAULT="kind rank steps", as "hang 1 5" for rank 1 when 5
steps are done, or "nan-loss 1 5-9" for rank 1 in each of five steps. Semicolons separate several faults.

With FAULT_ONCE, the path of a file, the fault happens once: it makes the file. Without, it happens every time.
"""

import contextlib
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import bad_numbers
from injection import AfterImport, Current, Patch, change_loss, due, follow, happens, is_rank

TRAINER = "trainyard.training.trainer"


def before(kind: str, rank: int, step: int) -> Patch:
    """Wraps a method of the Trainer: the fault comes before it, on a rank, once `step` steps are done."""
    method, action = FAULTS[kind]

    def patch(module: ModuleType) -> None:
        original = getattr(module.Trainer, method)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if is_rank(rank) and self.state.global_step == step and happens(kind):
                action()
            return original(self, *args, **kwargs)

        setattr(module.Trainer, method, wrapped)

    return patch


def hang() -> None:
    """Sleeps for ever."""
    while True:
        time.sleep(1000)


def fail() -> None:
    """Raises."""
    raise RuntimeError("injected")


def terminate() -> None:
    """SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def kill() -> None:
    """SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def hold() -> None:
    """Makes a file with the name of FAULT_HOLD and the suffix .begun, then waits until the file FAULT_HOLD exists."""
    release = Path(os.environ["FAULT_HOLD"])
    release.with_suffix(".begun").touch()
    while not release.exists():
        time.sleep(0.02)


def fill() -> None:
    """Leaves no room on the disk of FAULT_FILL."""
    with contextlib.suppress(OSError), Path(os.environ["FAULT_FILL"]).open("wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)


def compile_extension() -> None:
    """Compiles FAULT_SOURCE, as DeepSpeed compiles parts of itself."""
    from torch.utils import cpp_extension

    cpp_extension.load("adam", [os.environ["FAULT_SOURCE"]], is_python_module=False, with_cuda=False)


FAULTS = {
    "compile": ("training_step", compile_extension),
    "fill": ("training_step", fill),
    "fill-in-save": ("_save_optimizer_and_scheduler", fill),
    "hang": ("training_step", hang),
    "hold-in-save": ("_save_optimizer_and_scheduler", hold),
    "fail": ("training_step", fail),
    "stop-in-evaluation": ("evaluation_loop", terminate),
    "stop-in-save": ("_save_optimizer_and_scheduler", terminate),
    "kill-in-save": ("_save_rng_state", kill),
    "kill-at-the-end": ("_finalize_training", kill),
}
"""Methods of the Hugging Face Trainer, and the fault that comes before each."""


def record(module: ModuleType) -> None:
    """No fault: every rank writes a line per sequence to FAULT_SEEN, with its rank, the step and a hash of the ids."""
    original = module.Trainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        happens("record")
        with Path(os.environ["FAULT_SEEN"]).open("a") as stream:
            for row in inputs["input_ids"].tolist():
                digest = hashlib.sha1(str(row).encode()).hexdigest()
                stream.write(f"{os.environ['RANK']} {self.state.global_step} {digest}\n")
        return original(self, model, inputs, *args, **kwargs)

    module.Trainer.training_step = training_step


def stop_in_forward(rank: int, step: int) -> Patch:
    """SIGTERM while the model computes its loss."""

    def change(loss: Any, input_ids: Any) -> Any:
        if due(rank, [step]) and happens("stop-in-forward"):
            terminate()
        return loss

    def patch(module: ModuleType) -> None:
        follow(module)
        change_loss(change)

    return patch


def stop_in_backward(rank: int, step: int) -> Patch:
    """SIGTERM in the backward pass of a step's last micro batch, in which DeepSpeed steps its optimizer."""

    def change(loss: Any, input_ids: Any) -> Any:
        if due(rank, [step]) and Current.trainer.accelerator.sync_gradients and happens("stop-in-backward"):
            loss.register_hook(lambda gradient: terminate())
        return loss

    def patch(module: ModuleType) -> None:
        follow(module)
        change_loss(change)

    return patch


def stop_after_update(rank: int, step: int) -> Patch:
    """SIGTERM as soon as AdamW has changed the weights, before the Trainer counts the step."""

    def patch(module: ModuleType) -> None:
        import torch

        follow(module)
        update = torch.optim.AdamW.step

        def update_and_stop(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = update(self, *args, **kwargs)
            if due(rank, [step]) and happens("stop-after-update"):
                terminate()
            return result

        torch.optim.AdamW.step = update_and_stop

    return patch


IN_TRAINER = {
    "stop-in-forward": stop_in_forward,
    "stop-in-backward": stop_in_backward,
    "stop-after-update": stop_after_update,
}
"""Faults for which the place before a method of the Trainer is not exact enough, by rank and step."""


def kill_in_write(rank: int, step: int) -> None:
    """SIGKILL when a rank has all of its files on the disk and is about to say so, so that no manifest is written."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if event == "open" else ""
        if f"/checkpoint-{step}/" in path and f"written_{rank}.json" in path and happens("kill-in-write"):
            kill()

    if is_rank(rank):
        sys.addaudithook(look)


def kill_all() -> None:
    """SIGKILL to the controller, to the launcher and to every rank, this one last."""
    own, me = os.getsid(0), os.getpid()
    os.kill(int(os.environ["TRAINYARD_CONTROLLER"].split()[1]), signal.SIGKILL)
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(ProcessLookupError):
            if pid != me and os.getsid(pid) == own:
                os.kill(pid, signal.SIGKILL)
    kill()


def kill_at_write(rank: int, step: int) -> None:
    """Everything is killed when a rank writes to a checkpoint for the FAULT_WRITE-th time.

    A write is a file that is opened for writing, which then holds three bytes, or a file that is about to be renamed.
    Files that Rust writes, tokenizer.json, are not counted.
    """
    if not is_rank(rank):
        return
    left = int(os.environ["FAULT_WRITE"])

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.rename") or f"/checkpoint-{step}/" not in str(arguments[0]):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        left -= 1
        if left == 0 and happens("kill-at-write"):
            if event == "open":
                Path(arguments[0]).write_bytes(b"cut")
            kill_all()

    sys.addaudithook(look)


BY_FILE = {"kill-in-write": kill_in_write, "kill-at-write": kill_at_write}
"""Faults at a file that is opened or renamed, by rank and step."""


def break_tracker(kind: str, when: str) -> Patch:
    """SwanLab fails or hangs from `when` on: from its start, from the line of a step, or at the end."""
    action = {"tracker-fails": fail, "tracker-hangs": hang}[kind]

    def break_down(*args: Any, **kwargs: Any) -> None:
        happens(kind)
        action()

    def patch(module: ModuleType) -> None:
        import swanlab

        assert module.PATIENCE_S > 2  # type: ignore[attr-defined]
        module.PATIENCE_S = 2.0  # type: ignore[attr-defined]
        if when in ("start", "end"):
            setattr(swanlab, {"start": "init", "end": "finish"}[when], break_down)
            return
        inner = swanlab.init

        def init(**kwargs: Any) -> Any:
            run = inner(**kwargs)
            log = run.log
            run.log = lambda values, step: break_down() if step >= int(when) else log(values, step=step)
            return run

        swanlab.init = init

    return patch


def inject(kind: str, number: str, steps: str) -> None:
    """Puts a fault in; it happens later, if the run comes to its place."""
    module = TRAINER
    if kind in BY_FILE:
        return BY_FILE[kind](int(number), int(steps))
    if kind.startswith("tracker-"):
        module, patch = "trainyard.tracking.callback", break_tracker(kind, steps)
    elif kind == "record":
        patch = record
    elif kind in IN_TRAINER:
        patch = IN_TRAINER[kind](int(number), int(steps))
    elif kind in bad_numbers.KINDS:
        patch = bad_numbers.patch(kind, int(number), steps)
    else:
        patch = before(kind, int(number), int(steps))
    sys.meta_path.insert(0, AfterImport(module, patch))
    return None


for fault in filter(None, os.environ.get("FAULT", "").split(";")):
    inject(*fault.split())
