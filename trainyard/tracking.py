"""SwanLab, from rank 0 alone. A tracker that fails is left out; training goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.schema import TrackingConfig

MODES: dict[str, Any] = {"local": "local", "cloud": "online", "offline": "offline", "disabled": "disabled"}
"""tracking.mode to SwanLab's own names."""

GROUPS = {
    "loss": "train",
    "grad_norm": "train",
    "learning_rate": "train",
    "epoch": "train",
    "tokens_per_second": "speed",
    "mfu": "speed",
    "data_wait": "speed",
    "tokens_seen": "speed",
    "save_stall_s": "speed",
    "memory_gib": "memory",
}
"""The section of the dashboard in which a metric is drawn; eval_* go to eval."""


def chart_name(metric: str) -> str:
    """`loss` -> `train/loss`, `eval_loss` -> `eval/loss`."""
    if metric.startswith("eval_"):
        return f"eval/{metric.removeprefix('eval_')}"
    return f"{GROUPS.get(metric, 'train')}/{metric}"


class SwanLabCallback(TrainerCallback):
    """Sends every line of metrics to SwanLab. The experiment is opened with the first one.

    In local and offline mode SwanLab cannot continue a run, so a resumed one is a new experiment that first repeats
    the `history` up to its checkpoint: its curves are whole.
    """

    def __init__(
        self, settings: TrackingConfig, name: str, log_dir: Path, config: dict[str, Any], say: Callable[[str], None]
    ):
        """`log_dir` receives the files of local and offline runs; `config` is shown with the run; `say` warns."""
        self.settings, self.name, self.log_dir, self.config, self.say = settings, name, log_dir, config, say
        self.history: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        """Answers of before the checkpoint; see trainyard.callbacks.samples."""
        self._run: Any = None
        self._failed = False

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "train_runtime" not in kwargs["logs"]:  # the Trainer's closing summary is not a step
            self._open()
            self._send(state.global_step, kwargs["logs"])

    def show(self, samples: list[dict[str, Any]]) -> None:
        """Sends answers to sample prompts, all of one step, as text."""
        self._open()
        if self._run is not None and samples:
            import swanlab

            texts = [swanlab.Text(_described(row), caption=f"sample {i}") for i, row in enumerate(samples, 1)]
            self._attempt("log", lambda: self._run.log({"samples/answers": texts}, step=samples[0]["step"]))

    def finish(self) -> None:
        """Closes the experiment, once everything is written or sent."""
        if self._run is not None:
            import swanlab

            self._attempt("finish", swanlab.finish)

    def _open(self) -> None:
        if self._run is not None or self._failed:
            return
        self._attempt("start", self._start)
        for row in self.history:
            self._send(row["step"], {key: value for key, value in row.items() if key != "step"})
        self.show(self.samples)

    def _start(self) -> None:
        import swanlab

        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._run = swanlab.init(
            project=self.settings.project,
            workspace=self.settings.workspace,
            name=self.name,
            config=self.config,
            mode=MODES[self.settings.mode],
            log_dir=str(self.log_dir),
            tags=self.settings.tags or None,
        )

    def _send(self, step: int, values: dict[str, Any]) -> None:
        if self._run is not None:
            numbers = {chart_name(key): value for key, value in values.items() if isinstance(value, int | float)}
            self._attempt("log", lambda: self._run.log(numbers, step=step))

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, it must not cost the run anything
            self._run, self._failed = None, True
            reason = (str(error).strip() or "no message").splitlines()[0]
            self.say(f"tracking is off: SwanLab could not {what}: {type(error).__name__}: {reason}")


def _described(sample: dict[str, Any]) -> str:
    ending = "" if sample["finished"] else " [...]"
    return f"{sample['prompt']}\n\n--- model ---\n{sample['response']}{ending}\n\n--- data ---\n{sample['reference']}"
