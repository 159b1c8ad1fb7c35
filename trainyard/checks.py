"""Everything that can be known to be wrong before anything is started. Each check returns messages, all are reported.

A message has the value, the rule and the fix. Nothing here writes, imports torch or asks the network.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainyard import zero
from trainyard.arguments import choice_problems
from trainyard.data import sources
from trainyard.data import tokenizer as tokenizer_files
from trainyard.devices import Devices
from trainyard.rundir import RunDir, read_json
from trainyard.schema import ARCHITECTURE, Config

PACKINGS = ("concat",)


def problems(config: Config, devices: Devices, run: RunDir, hosts: int = 1) -> list[str]:
    """Every mistake in a resolved config (see controller.resolve), for `devices` and the run directory."""
    found: list[str] = []
    for check in (_numbers, _choices, _data, model_problems, _batch, _evaluation):
        found.extend(check(config))
    found.extend(_devices(config, devices))
    found.extend(_deepspeed(config, devices))
    found.extend(_launch(config, hosts))
    found.extend(_run(config, run))
    return found


EXACT = ("run.seed", "model", "tokenizer", "data", "trainer.global_batch_size")
"""Settings that a resumed run must keep, for what comes out to be what an undisturbed run would have given."""


def drift(before: Config, now: Config) -> list[str]:
    """One message for every setting under EXACT that differs, old and new."""
    old, new = (_flat(asdict(config)) for config in (before, now))
    passed_over = ("data.prepared", "tokenizer.path" if now.tokenizer.path is None else "")
    return [
        f"{key}: the run has {old.get(key)}, this command {value}. Resume with the old value, give this one another "
        f"run.name, or start over with run.resume=never"
        for key, value in new.items()
        if key.startswith(EXACT) and key not in passed_over and old.get(key) != value
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def _numbers(config: Config) -> Iterator[str]:
    trainer, data, launch = config.trainer, config.data, config.launch
    at_least_one = {
        "trainer.per_device_train_batch_size": trainer.per_device_train_batch_size,
        "trainer.per_device_eval_batch_size": trainer.per_device_eval_batch_size,
        "trainer.global_batch_size": trainer.global_batch_size,
        "trainer.gradient_accumulation_steps": trainer.gradient_accumulation_steps,
        "trainer.save_total_limit": trainer.save_total_limit,
        "trainer.early_stopping_patience": trainer.early_stopping_patience,
        "launch.num_devices": launch.num_devices,
    }
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            yield f"{name}={value}: must be at least 1"
    if data.block_size < 2:
        yield f"data.block_size={data.block_size}: must be at least 2 tokens, for one to predict"
    if not 0 <= data.eval_fraction < 1:
        yield f"data.eval_fraction={data.eval_fraction}: must be at least 0 and below 1"
    if trainer.learning_rate <= 0:
        yield f"trainer.learning_rate={trainer.learning_rate}: must be above 0"
    if trainer.max_steps <= 0 and trainer.num_train_epochs <= 0:
        yield f"trainer.num_train_epochs={trainer.num_train_epochs}: must be above 0, or set trainer.max_steps"
    for name in ("logging_steps", "save_steps", "eval_steps"):
        value = getattr(trainer, name)
        if value is not None and (value <= 0 or (value > 1 and value != int(value))):
            yield f"trainer.{name}={value}: must be a whole number of steps, or a share of the run between 0 and 1"
    if config.tokenizer.vocab_size < 300:
        yield f"tokenizer.vocab_size={config.tokenizer.vocab_size}: must be at least 300, for 256 bytes and some merges"


def _choices(config: Config) -> Iterator[str]:
    fixed: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("model.init", config.model.init, ("pretrained", "scratch")),
        ("data.packing", config.data.packing, PACKINGS),
        ("tracking.backend", config.tracking.backend, (None, "swanlab")),
        ("tracking.mode", config.tracking.mode, ("local", "cloud", "offline", "disabled")),
    ]
    for number, source in enumerate(config.data.sources):
        fixed.append((f"data.sources[{number}].format", source.format, sources.FORMATS))
        fixed.append((f"data.sources[{number}].document", source.document, ("line", "file")))
    for name, value, allowed in fixed:
        if value not in allowed:
            yield f"{name}={value}: must be one of {', '.join(str(item) for item in allowed)}"
    yield from choice_problems(config.trainer)


def _data(config: Config) -> Iterator[str]:
    if not config.data.sources:
        yield "data.sources=[]: name at least one, as data.sources=[{path: corpus.jsonl, format: jsonl}]"
    for source in config.data.sources:
        if source.format != "hub":
            try:
                sources.files(source)
            except sources.DataError as error:
                yield str(error)


def model_problems(config: Config) -> Iterator[str]:
    """What is wrong with the model; asked again after the preparation, which downloads the config of a hub id."""
    model, tokenizer = config.model, config.tokenizer
    yield from _local_path("model.path", model.path, "config.json")
    yield from _local_path("tokenizer.path", tokenizer.path, "tokenizer_config.json")
    shape = [name for name in ARCHITECTURE if getattr(model, name) is not None]
    if model.init == "pretrained" and shape:
        yield (
            f"model.{shape[0]}={getattr(model, shape[0])}: pretrained weights have the shape of {model.path}; "
            f"leave out {', '.join(f'model.{name}' for name in shape)}, or set model.init=scratch"
        )
    if model.path is None and model.init == "pretrained":
        yield "model.init=pretrained: there are no weights to load; set model.path, or model.init=scratch"
    if model.path is None and model.model_type is None:
        yield "model.path and model.model_type are not set: give a path, or choose a model=<name>"
    architecture = {
        **_read_config(model.path),
        **{k: v for k, v in vars(model).items() if v is not None},
        **model.config,
    }
    context = architecture.get("max_position_embeddings")
    if isinstance(context, int) and config.data.block_size > context:
        yield (
            f"data.block_size={config.data.block_size}: the model's context is {context} tokens "
            f"(max_position_embeddings); set data.block_size={context} or less"
        )
    heads, hidden = architecture.get("num_attention_heads"), architecture.get("hidden_size")
    if heads and hidden and "head_dim" not in architecture and hidden % heads:
        yield f"model.hidden_size={hidden}: must be a multiple of num_attention_heads={heads}"
    groups = architecture.get("num_key_value_heads")
    if heads and groups and heads % groups:
        yield f"model.num_attention_heads={heads}: must be a multiple of num_key_value_heads={groups}"


def _local_path(name: str, path: str | None, wanted: str) -> Iterator[str]:
    if path is None or not tokenizer_files.looks_local(path):
        return
    directory = Path(path).expanduser()
    if not directory.is_dir():
        yield f"{name}={path}: there is no such directory. Give a directory with a {wanted}, or a hub id"
    elif not (directory / wanted).is_file():
        yield f"{name}={path}: holds no {wanted}. Give a directory that save_pretrained wrote"


def _read_config(path: str | None) -> dict[str, Any]:
    """The config.json of a model on this machine, downloaded ones included; empty when there is none yet."""
    directory = tokenizer_files.local_directory(path, "config.json") if path else None
    return read_json(directory / "config.json") if directory else {}


def _batch(config: Config) -> Iterator[str]:
    trainer = config.trainer
    ranks = (config.launch.num_devices or 1) * config.launch.num_nodes
    micro, total = trainer.per_device_train_batch_size or 1, trainer.global_batch_size
    if not total or total < 1 or micro < 1:
        return
    unit = micro * ranks
    if total % unit:
        fits = sorted({max(unit, total // unit * unit), (total // unit + 1) * unit})
        smaller = _divisors(total, ranks)
        yield (
            f"trainer.global_batch_size={total}: must be a multiple of {unit} "
            f"({ranks} ranks x trainer.per_device_train_batch_size={micro}), as {' or '.join(map(str, fits))}"
            + (f"; or set trainer.per_device_train_batch_size to one of {smaller}" if smaller else "")
        )
    elif trainer.gradient_accumulation_steps not in (None, total // unit):
        yield (
            f"trainer.gradient_accumulation_steps={trainer.gradient_accumulation_steps}: it follows from "
            f"trainer.global_batch_size={total}, {ranks} ranks and {micro} sequences each, and is {total // unit}; "
            f"leave it out, or set trainer.global_batch_size=null"
        )


def _divisors(total: int, ranks: int) -> str:
    if total % ranks:
        return ""
    share = total // ranks
    return ", ".join(str(size) for size in range(1, min(share, 512) + 1) if share % size == 0)


def _evaluation(config: Config) -> Iterator[str]:
    trainer = config.trainer
    wants = [name for name in ("early_stopping_patience", "load_best_model_at_end") if getattr(trainer, name)]
    if wants and (trainer.eval_strategy == "no" or config.data.eval_fraction == 0):
        yield (
            f"trainer.{wants[0]}={getattr(trainer, wants[0])}: needs evaluations; "
            f"set data.eval_fraction above 0 and trainer.eval_strategy=steps"
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
    port = launch.master_port
    if port is not None and not 1024 <= port < 65536:
        yield f"launch.master_port={port}: must lie between 1024 and 65535; leave it out for a free one"
    elif port is not None and not _is_free(port):
        yield f"launch.master_port={port}: the port is in use; leave it out for a free one"
    if launch.grace_period_s <= 0 or launch.timeout_s <= 0:
        yield "launch.grace_period_s and launch.timeout_s: must be above 0 seconds"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _run(config: Config, run: RunDir) -> Iterator[str]:
    name, resume = config.run.name or "", config.run.resume
    if not name or "/" in name or name.startswith("."):
        yield f"run.name={name}: names a directory, so it must not be empty, start with a dot or contain /"
        return
    if resume not in ("auto", "never") and not Path(resume).expanduser().is_dir():
        yield f"run.resume={resume}: must be auto, never or a checkpoint directory"
    place = run.path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        yield f"paths.outputs={config.paths.outputs}: {place} is a file; name a directory"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield f"paths.outputs={config.paths.outputs}: no permission to write in {place}"
    holder = run.holder()
    if holder:
        yield f"run.name={name}: the run is alive, {holder}. Wait for it, stop it, or give this one another run.name"
