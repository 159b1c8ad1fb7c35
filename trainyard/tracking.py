"""SwanLab, from rank 0 alone. A tracker that fails is left out; training goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MODES = {"local": "local", "cloud": "online", "offline": "offline", "disabled": "disabled"}

GROUPS = {
    "loss": "train",
    "grad_norm": "train",
    "learning_rate": "train",
    "epoch": "train",
    "tokens_per_second": "speed",
    "mfu": "speed",
    "data_wait": "speed",
    "tokens_seen": "speed",
    "memory_gib": "memory",
}
"""The section of the dashboard in which a metric is drawn; eval_* go to eval."""


def chart_name(metric: str) -> str:
    """`loss` -> `train/loss`, `eval_loss` -> `eval/loss`."""
    if metric.startswith("eval_"):
        return f"eval/{metric.removeprefix('eval_')}"
    return f"{GROUPS.get(metric, 'train')}/{metric}"


class SwanLabCallback(TrainerCallback):
    """Sends every line of metrics to SwanLab.

    In local and offline mode SwanLab cannot continue a run, so a resumed one is a new experiment that first repeats
    the `history` up to its checkpoint: its curves are whole.
    """

    def __init__(
        self,
        *,
        name: str,
        project: str,
        workspace: str | None,
        mode: str,
        log_dir: Path,
        tags: list[str],
        settings: dict[str, Any],
        history: list[dict[str, Any]],
        say: Callable[[str], None],
    ):
        self.say = say
        self._run: Any = None
        self._attempt("start", lambda: self._start(name, project, workspace, mode, log_dir, tags, settings))
        for row in history:
            self._send(row["step"], {key: value for key, value in row.items() if key != "step"})

    def _start(
        self,
        name: str,
        project: str,
        workspace: str | None,
        mode: str,
        log_dir: Path,
        tags: list[str],
        settings: dict[str, Any],
    ) -> None:
        import swanlab

        log_dir.mkdir(parents=True, exist_ok=True)
        self._run = swanlab.init(
            project=project, workspace=workspace, name=name, config=settings, mode=MODES[mode],
            log_dir=str(log_dir), tags=tags or None,
        )  # fmt: skip

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "train_runtime" not in kwargs["logs"]:
            self._send(state.global_step, kwargs["logs"])

    def finish(self, error: str | None = None) -> None:
        """Closes the experiment; `error` marks it as failed."""
        if self._run is not None:
            self._attempt("finish", lambda: self._finish(error))

    def _finish(self, error: str | None) -> None:
        import swanlab

        if error is None:
            swanlab.finish()
        else:
            swanlab.finish(state="crashed", error=error)

    def _send(self, step: int, values: dict[str, Any]) -> None:
        if self._run is not None:
            numbers = {chart_name(key): value for key, value in values.items() if isinstance(value, (int, float))}
            self._attempt("log", lambda: self._run.log(numbers, step=step))

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, it must not cost the run anything
            self._run = None
            reason = str(error).strip().splitlines()
            self.say(
                f"tracking is off: SwanLab could not {what}: {type(error).__name__}: {reason[0] if reason else ''}"
            )
