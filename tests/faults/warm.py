"""Runs without the time for imports: `python tests/faults/warm.py` imports the libraries once and forks each run.

Controller, ranks and signals are the real ones. Only DeepSpeed's launcher is left out; other tests start it. A run
costs 3 s instead of 15.

Each line of standard input is a JSON object, {"stage", "arguments", "env", "output"}; the answer is the exit code. The
run's output goes to OUTPUT.out and OUTPUT.err.
"""

import contextlib
import ctypes
import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

INJECT = Path(__file__).parent / "inject" / "sitecustomize.py"


class Forked:
    """A child process with the attributes of subprocess.Popen that the product uses."""

    def __init__(self, work: Callable[[], int]):
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(work)

    def poll(self) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _become(work: Callable[[], int]) -> None:
    """Works, and ends this process with the exit code of the work."""
    code = 1
    try:
        code = work()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def redirect(out: Path, err: Path) -> None:
    """Sends standard output and standard error of this process to files."""
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)


def start_ranks(arguments: list[str], env: dict[str, str], log: Path) -> Any:
    """Takes the place of launchers.local.start: forks the ranks, each with the environment that DeepSpeed gives it."""
    from trainyard.machine.processes import START

    options = dict(item.removeprefix("--").split("=") for item in arguments if "=" in item and item.startswith("--"))
    module, *words = arguments[arguments.index(START) + 1 :]
    ranks = int(options["num_gpus"])

    def rank(number: int) -> int:
        place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": ranks, "LOCAL_SIZE": ranks}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": options["master_port"]}
        os.environ.clear()
        os.environ.update(env | {key: str(value) for key, value in (place | address).items()})
        runpy.run_path(str(INJECT))
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__")
        return 0

    def launch() -> int:
        os.setsid()
        redirect(log, log)
        children = [Forked(lambda number=number: rank(number)) for number in range(ranks)]  # type: ignore[misc]
        return max(abs(child.wait()) for child in children)

    from trainyard.control.launchers.local import LocalLaunch

    return LocalLaunch(Forked(launch))  # type: ignore[arg-type]


def control(request: dict[str, Any]) -> int:
    """Does the work of `bash launch/pretrain.sh`, and returns its exit code."""
    from trainyard.commands import train
    from trainyard.control.launchers import local
    from trainyard.machine.signals import StopSignals

    os.setsid()
    redirect(Path(request["output"] + ".out"), Path(request["output"] + ".err"))
    os.environ.update(request["env"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    assert callable(local.start)  # under another name the real launcher would start
    local.start = start_ranks
    with StopSignals() as stop:
        return train.main(request["stage"], request["arguments"], stop)


def import_all() -> None:
    """Imports the libraries. The ranks themselves import the project's code for ranks, so that faults get into it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401 - imports torch._dynamo
    import peft  # noqa: F401
    import torchdata.stateful_dataloader  # noqa: F401
    import transformers
    import transformers.integrations.deepspeed
    import transformers.models.llama.modeling_llama

    assert transformers.Trainer

    import trainyard.commands.train  # noqa: F401


def adopt_orphans() -> None:
    """Makes this process the parent of processes that lose theirs, so that a test sees which are left."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def bury() -> None:
    """Collects children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    adopt_orphans()
    import_all()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        bury()
        child = Forked(lambda: control(request))  # noqa: B023
        print(child.wait(), flush=True)
