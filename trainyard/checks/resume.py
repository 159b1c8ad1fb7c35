"""Where a run goes on from, and whether it may: from its newest complete checkpoint, under its first settings."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from trainyard.checkpoint.directory import newest_whole, step_of
from trainyard.checkpoint.layout import layout_of, ranks_under, renamed
from trainyard.checkpoint.manifest import Manifest, verify
from trainyard.checks.filled_in import FilledIn
from trainyard.checks.json_changes import json_changes
from trainyard.config.defaults import OWN, default_options, option_values, own_defaults
from trainyard.config.overrides import is_open, key_of
from trainyard.config.saved import flat, load
from trainyard.config.schema import Config
from trainyard.config.secrets import redact
from trainyard.errors import did_you_mean
from trainyard.files import read_json
from trainyard.rundir.directory import RunDir
from trainyard.rundir.status import State, Status

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
    "trainer.label_smoothing_factor",
    "trainer.neftune_noise_alpha",
    "trainer.average_tokens_across_devices",
    "trainer.bf16",
    "trainer.fp16",
    "trainer.tf32",
)
"""Starts of the names of settings that a resumed run must keep, for they change what it learns."""

NOT_EXACT = (
    "data.prepared",
    "data.on_error",
    "data.max_rejected",
    "data.max_dropped",
    "trainer.bf16_full_eval",
    "trainer.fp16_full_eval",
)
"""Settings under EXACT that do not change what is learned. `changed_data` compares the prepared bytes themselves."""

OTHERWISE = "Resume as it was, take another run.name, or start over with run.resume=never"


class Change(NamedTuple):
    """A setting under EXACT that differs from the run's last command."""

    name: str
    old: Any
    new: Any

    @property
    def problem(self) -> str:
        """The message for a change that is not allowed."""
        change = f"{self.name}: the run has {self.old}, this command {self.new}"
        return f"{change}. Resume with the old value, {_or_else(self.name)}"


def _or_else(name: str) -> str:
    return f"allow it by run.allow_changes=[{name}], take another run.name, or start over with run.resume=never"


def is_finished(config: Config, run: RunDir) -> bool:
    """Has this run finished under the same schedule? With another length it goes on."""
    if config.run.resume != "auto" or Status.read(run).state != State.FINISHED or not run.model.is_dir():
        return False
    before = load(run.config).trainer
    return (before.max_steps, before.num_train_epochs) == (config.trainer.max_steps, config.trainer.num_train_epochs)


def begun_from(config: Config, run: RunDir) -> Path | None:
    """The checkpoint that run.resume names. None without one, and once the run has a complete checkpoint of its own."""
    if config.run.resume in ("auto", "never") or newest_whole(run.checkpoints) is not None:
        return None
    return Path(config.run.resume).expanduser().absolute()


def problems(config: Config, run: RunDir) -> list[str]:
    """Every reason why this command cannot go on from the checkpoint that it would take.

    Empty when it can, and when it starts from the beginning.

    Raises:
        ConfigError: the run's config.yaml is missing, damaged or of another version; see saved.load.
    """
    named = begun_from(config, run)
    if named is not None:
        reason = "" if step_of(named) is not None else "its name is not checkpoint-<step>"
        reason = reason or verify(named) or ""
        if reason:
            return [f"run.resume={config.run.resume}: {reason}. Name the directory of a whole checkpoint"]
        return inconvertible(config, named)
    newest = newest_whole(run.checkpoints)
    if config.run.resume == "never" or newest is None:
        return []
    before = load(run.config)
    in_json = [change.problem for change in _in_json(before, config, run) if not is_allowed(change.name, config)]
    return [*drift(before, config), *in_json, *inconvertible(config, newest)]


def _in_json(before: Config, now: Config, run: RunDir) -> list[Change]:
    """The changes of the DeepSpeed JSON that change what is learned."""
    return [Change(*change) for change in json_changes(before, read_json(run.deepspeed), now)]


def drift(before: Config, now: Config) -> list[str]:
    """A message for each setting that differs and is not in run.allow_changes, with its old value and its new."""
    return [change.problem for change in changes(before, now) if not is_allowed(change.name, now)]


def allowed(config: Config, run: RunDir) -> list[Change]:
    """The settings that differ from the run's last command. Each is in run.allow_changes, or reported by `problems`."""
    if not run.config.is_file():
        return []
    before = load(run.config)
    return [*changes(before, config), *_in_json(before, config, run)]


def changes(before: Config, now: Config) -> list[Change]:
    """Every setting under EXACT that differs."""
    old, new = (flat(redact(asdict(config))) for config in (before, now))  # the file has secrets masked
    derived = now.tokenizer.path is None or now.tokenizer.add_tokens  # the file has the path of the one that was made
    passed_over = [*NOT_EXACT, "tokenizer.path" if derived else ""]
    names = [name for name in {**old, **new} if name.startswith(EXACT) and name not in passed_over]
    return [Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def is_allowed(name: str, config: Config) -> bool:
    """Does run.allow_changes name a setting, its section, or the entry of EXACT that covers it?"""
    return any(
        name == given or name.startswith(f"{given}.") or (given in EXACT and name.startswith(given))
        for given in config.run.allow_changes
    )


def unknown_names(config: Config) -> Iterator[str]:
    """A message for each name in run.allow_changes that is not a setting."""
    settings = list(flat(asdict(config)))
    sections = {name.rpartition(".")[0] for name in settings}
    known = [*settings, *sorted(sections - {""}), *EXACT]
    for given in config.run.allow_changes:
        if given not in known and not is_open(given) and not given.startswith("deepspeed.config."):
            hint = did_you_mean(given, known, "--help lists the settings")
            yield f"run.allow_changes=[{given}]: there is no setting {given}. {hint}"


def changed_data(config: Config, run: RunDir) -> list[str]:
    """After the preparation: a message if the same settings now lead to another text or another tokenizer."""
    before = load(run.config) if run.config.is_file() else None
    if before is None or before.data.prepared is None or before.tokenizer.path is None:
        return []
    (trained, old), (tokenizer, new) = (
        (Path(str(each.tokenizer.path)), Path(str(each.data.prepared))) for each in (before, config)
    )
    if trained.name != tokenizer.name and not is_allowed("tokenizer.path", config):
        change = "tokenizer.path: the changed text would have a tokenizer of its own"
        return [f"{change}. Keep the run's, {trained}, {_or_else('tokenizer.path')}"]
    if old.name != new.name and not is_allowed("data.sources", config):
        change = "data.sources: the text has changed since the run's last checkpoint"
        return [f"{change}. Restore it, {_or_else('data.sources')}"]
    return []


def keep(config: Config, overrides: Sequence[str], run: RunDir) -> list[FilledIn]:
    """Gives a run that goes on, in place, what nobody gave in its command and conf/ decides otherwise by now.

    For a model or data of the user's own these are the values of the group's files, which may be other ones than in
    the version that began the run; and in every run that has only the batch per rank its global batch. On another
    number of ranks the gradient accumulation follows then, and the micro batch stays as it was given.

    Returns:
        The settings that this changed; empty for a run that begins.
    """
    if config.run.resume == "never" or not run.config.is_file() or not _has_something(run):
        return []
    before, kept = load(run.config), []
    for name in own_names(config.stage, overrides):
        section, _, field = name.partition(".")
        old = getattr(getattr(before, section), field, None)
        if getattr(getattr(config, section), field) != old:
            setattr(getattr(config, section), field, old)
            kept.append(FilledIn(name, old, AS_BEGUN))
    total, trainer = before.trainer.global_batch_size, config.trainer
    if trainer.global_batch_size is None and total and not is_allowed("trainer.global_batch_size", config):
        trainer.global_batch_size, trainer.gradient_accumulation_steps = total, None
        kept.append(FilledIn("trainer.global_batch_size", total, AS_BEGUN))
    return kept


AS_BEGUN = "as the run was begun"


def _has_something(run: RunDir) -> bool:
    """Is there a checkpoint to go on from, or the model of a run that has finished?"""
    return newest_whole(run.checkpoints) is not None or run.model.is_dir()


def own_names(stage: str, overrides: Sequence[str]) -> list[str]:
    """The settings without an override that the files of conf/ decide for a model or data of the user's own.

    They are those of the files of this version and of the example's, which decided them in version 0.1.
    """
    keys = {key_of(override) for override in overrides}
    names: dict[str, None] = {}
    for item in own_defaults(stage, overrides):
        group = key_of(item).partition(".")[0]
        options = (default_options(stage)[group], OWN.format(stage=stage))
        names |= dict.fromkeys(name for option in options for name in option_values(group, option))
    if any(name.startswith("data.") for name in names):
        names["data.chat_template"] = None
    passed_over = {*keys, "data.sources", "trainer.global_batch_size"}
    return [name for name in names if name not in passed_over and not any(key.startswith(f"{name}.") for key in keys)]


def fits(config: Config, manifest: Manifest) -> bool:
    """Can this command's ranks load a checkpoint without a conversion?"""
    return manifest.fits(layout_of(config), config.launch.ranks)


def inconvertible(config: Config, found: Path) -> list[str]:
    """Every reason why a checkpoint cannot be converted for this command's ranks; empty when it can, or fits."""
    manifest, now = Manifest.read(found), layout_of(config)
    if manifest is None or manifest.layout is None or fits(config, manifest):
        return []
    before = manifest.layout
    reasons = [*before.obstacles(), *now.obstacles()]
    optimizer = getattr(config.trainer, "optim", None) or "adamw_torch"
    if (before.optimizer is None or now.optimizer is None) and optimizer not in ("adamw_torch", "adamw_torch_fused"):
        reasons.append(f"the states of trainer.optim={optimizer} cannot be converted")
    if before.scheduler != now.scheduler:
        reasons.append('the "scheduler" in the JSON is another')
    if not before.stage and (name := renamed(found)):
        reasons.append(f"transformers saves {name} of this architecture under another name")
    change = f"{found.name} was written by {manifest.writers}, this command has {described(config)}"
    return [f"deepspeed.config, launch.num_devices: {change}, and {reason}. {OTHERWISE}" for reason in reasons]


def described(config: Config) -> str:
    """This command's ranks in words: `1 rank under DDP`."""
    return ranks_under(config.launch.ranks, layout_of(config).stage)
