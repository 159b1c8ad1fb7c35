"""Everything that can be known to be wrong before anything is started. Each check returns messages, all are reported.

A message has the value, the rule and the fix. Nothing here writes, imports torch or asks the network.
"""

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainyard import launcher, resume, zero
from trainyard.arguments import choice_problems
from trainyard.data import added_tokens, chat, sources
from trainyard.data.truncation import TRUNCATIONS
from trainyard.devices import Devices
from trainyard.input_checks import model_problems, source_problems
from trainyard.rundir import RunDir
from trainyard.schema import ARCHITECTURE, Config, DataConfig, SourceConfig

DOCUMENTS = ("line", "paragraph", "file")
METRICS = ("loss", "eval_loss", "perplexity", "eval_perplexity")
"""What trainer.metric_for_best_model can be; the smaller the better."""


def problems(config: Config, devices: Devices, run: RunDir, hosts: int = 1) -> list[str]:
    """Every mistake in a resolved config (see resolve.resolve), for `devices` and the run directory."""
    found: list[str] = []
    for check in (choice_and_number_problems, source_problems, model_problems, _batch, _evaluation):
        found.extend(check(config))
    found.extend(_devices(config, devices))
    found.extend(_deepspeed(config, devices))
    found.extend(_launch(config, hosts))
    found.extend(_run(config, run))
    return found


def choice_and_number_problems(config: Config) -> Iterator[str]:
    """Values outside their range, and names that are none of the choices."""
    yield from _numbers(config)
    yield from _choices(config)


def _numbers(config: Config) -> Iterator[str]:
    trainer, data, launch = config.trainer, config.data, config.launch
    at_least_one = {
        "trainer.per_device_train_batch_size": trainer.per_device_train_batch_size,
        "trainer.per_device_eval_batch_size": trainer.per_device_eval_batch_size,
        "trainer.global_batch_size": trainer.global_batch_size,
        "trainer.gradient_accumulation_steps": trainer.gradient_accumulation_steps,
        "trainer.save_total_limit": trainer.save_total_limit,
        "trainer.early_stopping_patience": trainer.early_stopping_patience,
        "trainer.max_bad_steps": trainer.max_bad_steps,
        "launch.num_devices": launch.num_devices,
        "tracking.sample_tokens": config.tracking.sample_tokens,
        **{f"model.{name}": getattr(config.model, name) for name in ARCHITECTURE if name != "tie_word_embeddings"},
    }
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            yield f"{name}={value}: must be at least 1"
    if not 0 <= config.tracking.samples <= 1000:
        yield f"tracking.samples={config.tracking.samples}: must be from 0 to 1000"
    if not 0 <= config.run.seed < 2**32:
        yield f"run.seed={config.run.seed}: must be at least 0 and below 2^32"
    extra = vars(trainer)
    if (extra.get("warmup_steps") or 0) < 0:
        yield f"trainer.warmup_steps={extra['warmup_steps']:g}: must not be negative"
    if extra.get("dataloader_prefetch_factor") and not trainer.dataloader_num_workers:
        yield (
            f"trainer.dataloader_prefetch_factor={extra['dataloader_prefetch_factor']}: "
            f"only data workers read ahead; set trainer.dataloader_num_workers=1 or more"
        )
    if trainer.lr_scheduler_type == "cosine_with_min_lr" and not extra.get("lr_scheduler_kwargs"):
        yield (
            "trainer.lr_scheduler_type=cosine_with_min_lr: needs its end, "
            "as trainer.lr_scheduler_kwargs={min_lr_rate: 0.1}"
        )
    if data.block_size < 2:
        yield f"data.block_size={data.block_size}: must be at least 2 tokens, for one to predict"
    if not 0 <= data.eval_fraction < 1:
        yield f"data.eval_fraction={data.eval_fraction}: must be at least 0 and below 1"
    if not 0 <= data.max_rejected < 1:
        yield f"data.max_rejected={data.max_rejected}: a share of the documents, at least 0 and below 1"
    if not 0 < data.max_document_mb <= 1e6:
        yield f"data.max_document_mb={data.max_document_mb}: must be above 0, and a million at most"
    yield from _shares(data)
    if data.chat_template is not None and "{" not in data.chat_template:
        yield f"data.chat_template={data.chat_template}: must be chatml, plain or a file with a Jinja template"
    if config.peft.r < 1 or not 0 <= config.peft.dropout < 1:
        yield f"peft.r={config.peft.r}, peft.dropout={config.peft.dropout}: r from 1, dropout from 0 to below 1"
    targets = config.peft.target_modules
    named = targets if isinstance(targets, list) else [targets]
    if config.peft.method and not (named and all(isinstance(name, str) and name for name in named)):
        yield f"peft.target_modules={targets}: must be names of layers, as [q_proj, v_proj], a regex, or all-linear"
    if trainer.learning_rate <= 0:
        yield f"trainer.learning_rate={trainer.learning_rate}: must be above 0"
    if not 0 < trainer.spike_deviations < math.inf:
        yield f"trainer.spike_deviations={trainer.spike_deviations}: must be above 0; 6 passes over ordinary noise"
    if not 10 <= trainer.spike_window <= 100_000:
        yield f"trainer.spike_window={trainer.spike_window}: must be from 10 to 100,000 steps, for a mean to mean much"
    if trainer.max_steps <= 0 and trainer.num_train_epochs <= 0:
        yield f"trainer.num_train_epochs={trainer.num_train_epochs}: must be above 0, or set trainer.max_steps"
    for name in ("logging_steps", "save_steps", "eval_steps"):
        value = getattr(trainer, name)
        if value is not None and (value <= 0 or (value > 1 and value != int(value))):
            yield f"trainer.{name}={value}: must be a whole number of steps, or a share of the run between 0 and 1"
    try:
        added_tokens.parse(config.tokenizer.add_tokens)
    except ValueError as error:
        yield f"tokenizer.add_tokens: {error}"
    if config.tokenizer.vocab_size < 300:
        yield f"tokenizer.vocab_size={config.tokenizer.vocab_size}: must be at least 300, for 256 bytes and some merges"


def _shares(data: DataConfig) -> Iterator[str]:
    unset = [number for number, source in enumerate(data.sources) if source.weight is None]
    if unset and len(unset) < len(data.sources):
        yield f"data.sources[{unset[0]}].weight: is not set and others are; give every source a weight, or none"
    for number, source in enumerate(data.sources):
        for name, value in (("weight", source.weight), ("epochs", source.epochs)):
            if value is not None and not 0 < value <= 1e4:
                yield (
                    f"data.sources[{number}].{name}={value}: must be above 0, and 10,000 at most; "
                    f"take out a source that is not wanted"
                )
        yield from _columns(number, source)


def _columns(number: int, source: SourceConfig) -> Iterator[str]:
    place, given = f"data.sources[{number}].columns", source.columns
    if given is None:
        return
    if source.format == "text":
        yield f"{place}={given}: text has no columns; leave it out"
    elif source.format in sources.FORMATS and not (isinstance(given, list) and len(given) == 1):
        yield f"{place}={given}: must be a list of one column, the one that holds the text, as [text]"
    known = chat.COLUMNS.get(source.format)
    if known and (not isinstance(given, dict) or not given.keys() <= set(known)):
        yield f"{place}={given}: must give columns of {source.format} other names, as {{{known[0]}: question}}"


def _choices(config: Config) -> Iterator[str]:
    fixed: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("model.init", config.model.init, ("pretrained", "scratch")),
        (
            "data.packing",
            config.data.packing,
            ("concat", "best_fit", "padded") if config.stage == "pretrain" else ("best_fit", "padded"),
        ),
        ("data.truncation", config.data.truncation, TRUNCATIONS),
        ("data.learn", config.data.learn, ("all", "last")),
        ("peft.method", config.peft.method, (None, "lora")),
        ("data.on_error", config.data.on_error, ("stop", "skip")),
        ("trainer.metric_for_best_model", config.trainer.metric_for_best_model, (None, *METRICS)),
        ("trainer.on_spike", config.trainer.on_spike, ("log", "rollback")),
        ("tracking.backend", config.tracking.backend, (None, "swanlab")),
        ("tracking.mode", config.tracking.mode, ("local", "cloud", "offline", "disabled")),
    ]
    for number, source in enumerate(config.data.sources):
        formats = sources.FORMATS if config.stage == "pretrain" else chat.SOURCES
        fixed.append((f"data.sources[{number}].format", source.format, formats))
        fixed.append((f"data.sources[{number}].document", source.document, DOCUMENTS))
    for name, value, allowed in fixed:
        if value not in allowed:
            yield f"{name}={value}: must be one of {', '.join(str(item) for item in allowed)}"
    yield from choice_problems(config.trainer)


def _batch(config: Config) -> Iterator[str]:
    trainer = config.trainer
    ranks = config.launch.ranks
    micro, total = trainer.per_device_train_batch_size or 1, trainer.global_batch_size
    if not total or total < 1 or micro < 1:
        return
    unit = micro * ranks
    if total % unit:
        fits = sorted({max(unit, total // unit * unit), (total // unit + 1) * unit})
        smaller, counts = _divisors(total, ranks), _divisors(total, micro)
        yield (
            f"trainer.global_batch_size={total}: must be a multiple of {unit} "
            f"({ranks} ranks x trainer.per_device_train_batch_size={micro}), as {' or '.join(map(str, fits))}"
            + (f"; or set trainer.per_device_train_batch_size to one of {smaller}" if smaller else "")
            + (f"; or set launch.num_devices for one of {counts} ranks" if counts else "")
        )
    elif trainer.gradient_accumulation_steps not in (None, total // unit):
        yield (
            f"trainer.gradient_accumulation_steps={trainer.gradient_accumulation_steps}: it follows from "
            f"trainer.global_batch_size={total}, {ranks} ranks and {micro} sequences each, and is {total // unit}; "
            f"leave it out, or set trainer.global_batch_size=null"
        )


def _divisors(total: int, unit: int) -> str:
    """Of the units in a total; none when it is no whole number of them."""
    if total % unit:
        return ""
    share = total // unit
    return ", ".join(str(size) for size in range(1, min(share, 512) + 1) if share % size == 0)


def _evaluation(config: Config) -> Iterator[str]:
    trainer = config.trainer
    wants = [name for name in ("early_stopping_patience", "load_best_model_at_end") if getattr(trainer, name)]
    if wants and (trainer.eval_strategy == "no" or config.data.eval_fraction == 0):
        yield (
            f"trainer.{wants[0]}={getattr(trainer, wants[0])}: needs evaluations; "
            f"set data.eval_fraction above 0 and trainer.eval_strategy=steps"
        )
    if trainer.load_best_model_at_end and trainer.save_strategy not in ("best", trainer.eval_strategy):
        yield (
            f"trainer.save_strategy={trainer.save_strategy}: load_best_model_at_end needs a checkpoint at every "
            f"evaluation; set it to {trainer.eval_strategy}, as trainer.eval_strategy, or to best"
        )
    if trainer.load_best_model_at_end and trainer.save_strategy == trainer.eval_strategy == "steps":
        save, evaluate = trainer.save_steps, trainer.eval_steps or trainer.logging_steps
        if save >= 1 and evaluate >= 1 and save % evaluate:
            yield (
                f"trainer.save_steps={save:g}: load_best_model_at_end keeps the checkpoint of the best evaluation, "
                f"so it must be a multiple of trainer.eval_steps={evaluate:g}"
            )


def _devices(config: Config, devices: Devices) -> Iterator[str]:
    trainer, wanted = config.trainer, config.launch.num_devices
    if devices.on_gpu and config.launch.hostfile is None and wanted and wanted > devices.count:
        yield f"launch.num_devices={wanted}: this machine shows {devices.count} GPUs; set {devices.count} or less"
    if trainer.bf16 and trainer.fp16:
        yield "trainer.bf16=true and trainer.fp16=true: choose one"
    if trainer.fp16 and not devices.on_gpu:
        yield "trainer.fp16=true: there is no GPU; leave it out, the CPU trains in fp32"
    if trainer.bf16 and devices.on_gpu and not devices.bf16:
        yield f"trainer.bf16=true: {devices.name} does not compute in bfloat16; set trainer.fp16=true"


def _deepspeed(config: Config, devices: Devices) -> Iterator[str]:
    if config.deepspeed.config is None:
        return
    try:
        values = zero.read(config.deepspeed.config)
    except ValueError as error:
        yield f"deepspeed.config: {error}"
        return
    malformed = zero.malformed(values)
    if malformed:
        yield from (f"deepspeed.config={config.deepspeed.config}: {problem}" for problem in malformed)
        return
    if zero.offloads(values) and not devices.on_gpu:
        yield (
            f"deepspeed.config={config.deepspeed.config}: offloading moves memory off a GPU, and this machine "
            f"has none; set deepspeed=zero{zero.stage(values)}"
        )
    yield from zero.contradictions(values, config.trainer)


def _launch(config: Config, hosts: int) -> Iterator[str]:
    launch = config.launch
    if launch.hostfile is not None and hosts == 0:
        yield f"launch.hostfile={launch.hostfile}: must be a file with a line `host slots=N` for each node"
    if launch.hostfile is not None and shutil.which("ssh") is None:
        yield f"launch.hostfile={launch.hostfile}: there is no ssh to reach the nodes; install an OpenSSH client"
    if launch.node_rank is not None:
        if not 0 <= launch.node_rank < launch.num_nodes:
            yield f"launch.node_rank={launch.node_rank}: must be from 0 to {launch.num_nodes - 1}, launch.num_nodes - 1"
        if launch.hostfile is not None or launch.master_addr is None:
            yield "launch.node_rank: needs launch.master_addr, the address of node 0, and goes without launch.hostfile"
    port = launch.master_port
    if port is not None and not 1024 <= port < 65536:
        yield f"launch.master_port={port}: must lie between 1024 and 65535; leave it out for a free one"
    elif port is not None and not launch.node_rank and not launcher.is_free(port):
        yield f"launch.master_port={port}: the port is in use; leave it out for a free one"
    for name in ("grace_period_s", "timeout_s", "hang_timeout_s"):
        if getattr(launch, name) <= 0:
            yield f"launch.{name}={getattr(launch, name):g}: must be above 0 seconds"
    if launch.max_restarts < 0:
        yield f"launch.max_restarts={launch.max_restarts}: must be at least 0"


def _run(config: Config, run: RunDir) -> Iterator[str]:
    name, start = config.run.name or "", config.run.resume
    if not name or "/" in name or name.startswith(".") or len(name.encode()) > 200:
        yield (
            f"run.name={name}: names a directory, so it must not be empty, start with a dot, contain / "
            f"or be longer than 200 bytes"
        )
        return
    yield from resume.unknown_names(config)
    if start not in ("auto", "never") and not Path(start).expanduser().is_dir():
        yield f"run.resume={start}: must be auto, never or a checkpoint directory"
    place = run.path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        yield f"paths.outputs={config.paths.outputs}: {place} is a file; name a directory"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield f"paths.outputs={config.paths.outputs}: no permission to write in {place}"
    holder = run.holder()
    if holder and not config.launch.node_rank:
        yield f"run.name={name}: the run is alive, {holder}. Wait for it, stop it, or give this one another run.name"
