"""From where a run goes on, and whether it may: its newest whole checkpoint, under the settings it was begun with."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainyard import checkpoint, zero
from trainyard.runconfig import load, redact
from trainyard.rundir import RunDir, read_json
from trainyard.schema import Config

EXACT = (
    "run.seed",
    "model",
    "tokenizer",
    "data",
    "peft",
    "trainer.global_batch_size",
    "trainer.learning_rate",
    "trainer.lr_scheduler",
    "trainer.warmup",
    "trainer.weight_decay",
    "trainer.adam",
    "trainer.optim",
    "trainer.max_grad_norm",
    "trainer.bf16",
    "trainer.fp16",
)
"""Settings, by the start of their names, that a resumed run must keep to be the run that it was."""

NOT_EXACT = ("data.prepared", "data.on_error", "data.max_rejected")
"""Settings under EXACT that change nothing that is learned; which bytes were prepared is compared by themselves."""

OTHERWISE = "Resume with the old value, give this command another run.name, or start over with run.resume=never"


def is_finished(config: Config, run: RunDir) -> bool:
    """Has this very run ended? A finished run with a longer schedule goes on."""
    if config.run.resume != "auto" or run.read_status().get("state") != "finished" or not run.model.is_dir():
        return False
    before = load(run.config).trainer
    return (before.max_steps, before.num_train_epochs) == (config.trainer.max_steps, config.trainer.num_train_epochs)


def begun_from(config: Config, run: RunDir) -> Path | None:
    """The checkpoint directory named by run.resume, as long as the run has no whole checkpoint of its own."""
    if config.run.resume in ("auto", "never") or checkpoint.newest_whole(run.checkpoints) is not None:
        return None
    return Path(config.run.resume).expanduser().absolute()


def problems(config: Config, run: RunDir) -> list[str]:
    """Why this command cannot go on with what lies in the run directory; empty when it can, or has nothing to."""
    named = begun_from(config, run)
    if named is not None:
        reason = "" if checkpoint.step_of(named) is not None else "its name is not checkpoint-<step>"
        reason = reason or checkpoint.verify(named) or ""
        if reason:
            return [f"run.resume={config.run.resume}: {reason}. Name the directory of a whole checkpoint"]
        return _launched_otherwise(config, named, load_beside(named))
    newest = checkpoint.newest_whole(run.checkpoints)
    if config.run.resume == "never" or newest is None or not run.config.is_file():
        return []
    before = load(run.config)
    return [*drift(before, config), *_launched_otherwise(config, newest, before)]


def load_beside(named: Path) -> Config | None:
    """The config of the run that a checkpoint belongs to, where it still lies in it."""
    path = named.parent.parent / "config.yaml"
    return load(path) if path.is_file() else None


def drift(before: Config, now: Config) -> list[str]:
    """One message for every setting under EXACT that differs, old and new."""
    old, new = (_flat(redact(asdict(config))) for config in (before, now))  # a secret is not written down
    derived = now.tokenizer.path is None or now.tokenizer.add_tokens  # written down once it was made
    passed_over = [*NOT_EXACT, "tokenizer.path" if derived else ""]
    return [
        f"{key}: the run has {old.get(key)}, this command {value}. {OTHERWISE}"
        for key, value in new.items()
        if key.startswith(EXACT) and key not in passed_over and old.get(key) != value
    ]


def changed_data(config: Config, run: RunDir) -> list[str]:
    """After the preparation: have the bytes behind the same paths changed since the last checkpoint?"""
    if not run.config.is_file():
        return []
    before = load(run.config).data.prepared
    if before is None or Path(before).name == Path(str(config.data.prepared)).name:
        return []
    return [f"data.sources: the text or the tokenizer has changed since the run's last checkpoint. {OTHERWISE}"]


def _launched_otherwise(config: Config, found: Path, before: Config | None) -> list[str]:
    """DeepSpeed's files are split by rank and by ZeRO stage; they are not converted yet."""
    result = []
    ranks = (config.launch.num_devices or 1) * config.launch.num_nodes
    written = read_json(found / checkpoint.MANIFEST).get("world_size")
    if written != ranks:
        result.append(
            f"launch.num_devices: {found.name} was written by {written} ranks, this command has {ranks}. {OTHERWISE}"
        )
    if before is not None:
        stages = [_stage(each) for each in (before, config)]
        if stages[0] != stages[1]:
            result.append(
                f"deepspeed.config: {found.name} was written under {stages[0]}, this is {stages[1]}. {OTHERWISE}"
            )
    return result


def _stage(config: Config) -> str:
    if config.deepspeed.config is None:
        return "DDP"
    return f"ZeRO-{zero.stage(zero.read(config.deepspeed.config))}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
