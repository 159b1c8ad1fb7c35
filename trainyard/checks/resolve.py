"""Fills in, before the checks, the settings that follow from others and from the machine."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainyard.checks import model_facts, model_path, own_values
from trainyard.checks.filled_in import FilledIn, default_choices
from trainyard.config.overrides import default_name
from trainyard.config.schema import Config, ModelConfig
from trainyard.config.schema_launch import LaunchConfig
from trainyard.config.stages import STAGES
from trainyard.data.conversations.shipped import shipped
from trainyard.data.sources import files
from trainyard.data.tokenization import chat_templates
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.machine.devices import Devices


def resolve(config: Config, overrides: Sequence[str], devices: Devices, hosts: dict[str, int]) -> list[FilledIn]:
    """Fills in, in place, every value that is left to be derived.

    Args:
        overrides: the command line's, as trainyard.config.overrides.with_implied returns them.
        hosts: those of the hostfile with their slots; empty without a hostfile.

    Returns:
        The values that the user did not give, in the order of the config.
    """
    for section in (config.model, config.tokenizer):
        if section.path and section.path.startswith("~/"):  # no library looks for the home directory
            section.path = str(Path(section.path).expanduser())
    filled = [*name(config, overrides), *_inside_runs(config), *_model(config, overrides), *_data(config)]
    return [*filled, *_launch(config.launch, devices, hosts), *_trainer(config, devices)]


def name(config: Config, overrides: Sequence[str]) -> list[FilledIn]:
    """Fills in, in place, where the run's directory is: the outputs as an absolute path, and the run's name."""
    if not files.remote_problem(config.paths.outputs):  # an address stays as it is, to be refused
        config.paths.outputs = str(Path(config.paths.outputs).expanduser().absolute())
    if config.run.name:
        return []
    config.run.name = default_name(overrides)
    return [FilledIn("run.name", config.run.name, "from the overrides: the same command finds the run again")]


def _inside_runs(config: Config) -> Iterator[FilledIn]:
    """The model of a run where model.path or tokenizer.path names the run's directory."""
    places = (("model", config.model, "config.json"), ("tokenizer", config.tokenizer, "tokenizer_config.json"))
    for name, section, wanted in places:
        if found := model_path.inside_run(section.path, wanted):
            yield FilledIn(f"{name}.path", found, f"the model of the run {section.path}")
            section.path = found


def _model(config: Config, overrides: Sequence[str]) -> Iterator[FilledIn]:
    """The model, its weights and the tokenizer, with the other groups of conf/ that nobody chose."""
    choices = list(default_choices(config, overrides))
    named = any(re.match(r"\+*(model|experiment)[.=]", item) for item in overrides)
    if not named and (trained := default_model(config)):
        config.model = trained
        choices = [each for each in choices if each.key != "model"]
        yield FilledIn("model.path", trained.path, "trained here, and the default while it is there")
    yield from choices
    model, tokenizer = config.model, config.tokenizer
    if not model.init:
        model.init = "pretrained" if model.path else "scratch"
        if model.path:
            yield FilledIn("model.init", model.init, "model.path is given; scratch takes its architecture alone")
    if tokenizer.path is None and model.path:
        yield FilledIn("tokenizer.path", model.path, "the model's own")
    elif tokenizer.path is None:
        yield FilledIn("tokenizer.path", "new", f"a BPE of {tokenizer.vocab_size:,} tokens, trained on the data")


def _data(config: Config) -> Iterator[FilledIn]:
    """The chat template as its source, and the length of a sequence."""
    data = config.data
    if (found := own_values.chat_template(config)) is not None:
        data.chat_template = str(found.value)
        yield found
    data.chat_template = chat_template(data.chat_template, model_facts.tokenizer_of(config))
    if data.block_size is None:
        found = own_values.block_size(config)
        data.block_size = found.value
        yield found


def _launch(launch: LaunchConfig, devices: Devices, hosts: dict[str, int]) -> Iterator[FilledIn]:
    """Ranks, nodes and the port."""
    if launch.num_devices is None:
        launch.num_devices = min(hosts.values(), default=devices.count)
        gpus = f"all GPUs of this machine, {devices.name}" if devices.on_gpu else "ranks on the CPU: there is no GPU"
        reason = "slots of a host in the hostfile, the fewest" if hosts else gpus
        yield FilledIn("launch.num_devices", launch.num_devices, reason)
    if launch.node_rank is None:
        launch.num_nodes = max(1, len(hosts))
        if hosts:
            yield FilledIn("launch.num_nodes", launch.num_nodes, "hosts in the hostfile")
    elif not launch.master_port:
        launch.master_port = 29500
        yield FilledIn(
            "launch.master_port", launch.master_port, "the same on every node; a free one needs one controller"
        )


def _trainer(config: Config, devices: Devices) -> Iterator[FilledIn]:
    """Precision, the batch (global = micro batch x accumulation x ranks), and the learning rate."""
    trainer, ranks = config.trainer, config.launch.ranks
    count = f"{ranks} rank{'s' * (ranks != 1)}"
    if trainer.bf16 is None and trainer.fp16 is None:
        trainer.bf16 = devices.bf16
        if devices.bf16:
            yield FilledIn("trainer.bf16", trainer.bf16, f"{devices.name} computes in it")
    if trainer.global_batch_size is None and trainer.gradient_accumulation_steps is None:
        target = STAGES[config.stage].global_batch
        unit = ranks * (trainer.per_device_train_batch_size or 1)
        trainer.global_batch_size = unit * max(1, round(target / max(1, unit)))
        reason = f"about {target}, the default of {config.stage}, and a multiple of {unit} sequences on {count}"
        yield FilledIn("trainer.global_batch_size", trainer.global_batch_size, reason)
    if trainer.per_device_train_batch_size is None:
        most = own_values.fitting_micro_batch(config, devices)
        trainer.per_device_train_batch_size = micro_batch(trainer.global_batch_size, ranks, most)
        total = trainer.global_batch_size
        room = "" if most == own_values.LARGEST_MICRO_BATCH else f", as many as should fit into {devices.name},"
        whole = f"the largest up to {most}{room} that divides trainer.global_batch_size={total} over {count}"
        reason = whole if total is not None else "trainer.global_batch_size is not given either"
        yield FilledIn("trainer.per_device_train_batch_size", trainer.per_device_train_batch_size, reason)
    micro = trainer.per_device_train_batch_size
    unit = micro * ranks
    if trainer.global_batch_size is None:
        accumulated = trainer.gradient_accumulation_steps or 1
        trainer.global_batch_size = unit * accumulated
        reason = f"{count} x {micro} sequences x {accumulated} accumulated"
        yield FilledIn("trainer.global_batch_size", trainer.global_batch_size, reason)
    if trainer.gradient_accumulation_steps is None and unit > 0 and trainer.global_batch_size % unit == 0:
        trainer.gradient_accumulation_steps = trainer.global_batch_size // unit
        reason = f"trainer.global_batch_size={trainer.global_batch_size} over {count} x {micro} sequences"
        yield FilledIn("trainer.gradient_accumulation_steps", trainer.gradient_accumulation_steps, reason)
    if trainer.per_device_eval_batch_size is None:
        trainer.per_device_eval_batch_size = micro
        yield FilledIn("trainer.per_device_eval_batch_size", micro, "as trainer.per_device_train_batch_size")
    if trainer.learning_rate is None:
        found = own_values.learning_rate(config)
        trainer.learning_rate = found.value
        yield found


def default_model(config: Config) -> ModelConfig | None:
    """The stage's default model for a command that names no model; None when it has not been trained."""
    default = STAGES[config.stage].default_model
    path = Path(config.paths.outputs, default) if default else None
    there = path is not None and (path / "config.json").is_file()
    return ModelConfig(path=str(path), init="pretrained") if there else None


def chat_template(name: str | None, tokenizer: str | None = None) -> str | None:
    """The Jinja source behind data.chat_template: a file's, or that of a template by its name, ours or the tokenizer's.

    Any other text is returned unchanged: a resolved config holds the source itself, and a wrong name is refused later.
    """
    if name is None or "{" in name:
        return name
    if name in shipped():
        return shipped()[name]
    path = Path(name).expanduser()
    if path.is_file():
        return path.read_text(encoding="utf-8")
    directory = tokenizers.local_directory(tokenizer, "tokenizer_config.json") if tokenizer else None
    return chat_templates.beside(directory).get(name, name) if directory else name


def micro_batch(global_batch: int | None, ranks: int, most: int = own_values.LARGEST_MICRO_BATCH) -> int:
    """The largest micro batch, up to `most`, that divides a rank's share of the global batch; 1 if it is not whole."""
    if global_batch is None or ranks < 1 or global_batch < 1 or global_batch % ranks:
        return 1
    return max(size for size in range(1, most + 1) if (global_batch // ranks) % size == 0)
