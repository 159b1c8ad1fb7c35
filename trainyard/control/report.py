"""What a run says at its end: the summary of one that finished, the error of one that failed, and the way on."""

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from trainyard import COMMAND, INSTALLED
from trainyard.checkpoint.directory import no_space
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.control.attempt import Attempt
from trainyard.files import NoLocksError, disk_is_full
from trainyard.rundir.directory import RunDir
from trainyard.rundir.memory import needs_less
from trainyard.rundir.messages import NO_WORDS, LastWords
from trainyard.rundir.status import Status

FULL_BYTES = 1 << 16

LOG_TAIL = 15
"""Lines at the end of the launcher's log that are shown when no rank has left a message."""


def finished(config: Config, run_dir: RunDir, status: Status) -> str:
    """The summary: figures before and after, where the model is, what to do next."""
    final = status.final
    lines = [f"{run_dir.path.name}: finished, {status.step} steps, {status.tokens_seen:,} tokens"]
    for label, name in (("train loss", "loss"), ("held-out loss", "eval_loss"), ("perplexity", "eval_perplexity")):
        if name in final:
            first = final.get(f"first_{name}")
            before = "" if first is None else f"{first:.4f} -> "
            lines.append(f"  {label:14} {before}{final[name]:.4f}")
    model = _short(run_dir.model)
    if run_dir.samples.is_file():
        lines.append(f"  {'samples':14} {_short(run_dir.samples)}")
    lines += [
        f"  {'model':14} {model}",
        f"  {'dashboard':14} {_dashboard(Path(config.paths.outputs))}",
        f"  {'next':14} {STAGES[config.stage].next(model)}",
    ]
    return "\n".join(lines)


def _dashboard(outputs: Path) -> str:
    """The command that shows the metrics of all runs in a browser."""
    return (
        f"swanlab watch {_short(outputs / 'swanlog')}" if INSTALLED else f"bash launch/dashboard.sh {_short(outputs)}"
    )


def again(config: Config) -> str:
    """How a run that was stopped goes on."""
    never = config.run.resume == "never"
    return "the same command without run.resume=never resumes" if never else "the same command resumes"


@dataclass(frozen=True)
class Failure:
    """How a launch went wrong."""

    text: str
    """Shown when the run ends with it. The last line is the error itself."""
    step: int | None
    """The last step that was finished; None when the training had not begun."""
    final: bool = False
    """Would every further launch meet it again?"""

    @property
    def line(self) -> str:
        """The error itself."""
        return self.text.splitlines()[-1]


def rolled_back(run_dir: RunDir) -> bool:
    """Did the ranks leave to go on from the newest checkpoint in another way?"""
    return any(words.rollback for words in LastWords.read_all(run_dir))


def failure(run_dir: RunDir, attempt: Attempt) -> Failure:
    """Why a launch failed: the most telling of what it left.

    When a rank was killed or a node was lost, the other ranks' errors are complaints about that, so they come last.
    """
    step, logs = attempt.progress.step, _short(run_dir.logs)
    if attempt.hung is not None:
        text = f"no progress for {attempt.hung:g} s (launch.hang_timeout_s); the stacks of all ranks are in {logs}"
        return Failure(f"failed: {text}", step)
    errors = LastWords.read_all(run_dir)
    wordless = errors[0].error == NO_WORDS if errors else is_full(run_dir.path)
    if wordless and not attempt.lost:
        return Failure(f"failed: {no_space(run_dir.checkpoints)}", step, final=True)
    if attempt.killed:
        ranks = " and ".join(f"rank {rank}" for rank in attempt.killed)
        text = f"failed: {ranks} died without a message: killed, or out of memory (dmesg tells)"
        phase = attempt.progress.phase
        less = f" while {phase}; if memory was short, {needs_less(phase)}" if phase else ""
        return Failure(f"{text}{less}. See {logs}", step)
    tail = "\n".join(_read(run_dir.launcher_log).splitlines()[-LOG_TAIL:])
    if attempt.lost:
        text = f"{tail}\nfailed: {' and '.join(attempt.lost)} is gone, or ssh does not get through; see {logs}"
        return Failure(text, step)
    if errors:
        return _of_rank(errors[0])
    text = f"{tail}\nfailed: a rank or the launcher ended without a message (exit code {attempt.code}); see {logs}"
    return Failure(text, step)


def preparation_died(stage: str, code: int) -> str:
    """Why the process that prepared the data ended without an answer, and what needs less memory."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"died (exit code {code})"
    less = f"if memory was short, prepare by `{COMMAND} prepare {stage} --processes 1` and the same settings"
    return f"the preparation of the data {how}; {less}. The same command goes on from the parts that are done"


def trouble(run_dir: RunDir, error: OSError) -> str:
    """What an error of the file system means for a run."""
    if isinstance(error, NoLocksError):
        return str(error)
    return no_space(run_dir.checkpoints, error) if disk_is_full(error) else f"run directory {run_dir.path}: {error}"


def is_full(directory: Path) -> bool:
    """Has its disk too little room for the messages of the ranks?"""
    try:
        return shutil.disk_usage(directory).free < FULL_BYTES
    except OSError:
        return False


def _of_rank(words: LastWords) -> Failure:
    text = (
        f"{words.traceback.rstrip()}\n"
        f"rank {words.rank} failed first; its log is {_short(Path(words.log))}\n"
        f"rank {words.rank}: {words.error}"
    ).lstrip()
    return Failure(text, words.step, words.final)


def last_line(log: Path) -> str:
    """The last line of a log, which is the error in a traceback of Python, and where the rest is."""
    lines = _read(log).strip().splitlines()
    return f"{lines[-1] if lines else 'no message'}. See {_short(log)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(path: Path) -> str:
    """Relative to the current directory when it lies below it."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the working directory is gone
        return str(path)
