"""Every mistake that can be known before anything is started. Each check yields messages, and all are reported.

A message has the value, the rule and the fix. Nothing here writes, imports torch or asks the network.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainyard.checks import resume
from trainyard.checks.inputs import path_problems, source_problems
from trainyard.checks.models import model_problems
from trainyard.checks.numbers import number_problems
from trainyard.checks.optimizers import optimizer_problems
from trainyard.checks.packages import package_problems
from trainyard.config import deepspeed, deepspeed_rules, schedules
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.config.training_arguments import choice_problems
from trainyard.data.sequences.truncation import TRUNCATIONS
from trainyard.machine import ports
from trainyard.machine.devices import Devices
from trainyard.rundir.directory import RunDir, unfit

DOCUMENTS = ("line", "paragraph", "file")
"""Legal values of data.sources[].document."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables with a number of threads."""

METRICS = ("loss", "eval_loss", "perplexity", "eval_perplexity")
"""Legal values of trainer.metric_for_best_model: losses, the smaller the better."""


def problems(config: Config, devices: Devices, run: RunDir, hosts: int = 1) -> list[str]:
    """Every mistake in a resolved config, given this machine's devices and the run directory.

    Args:
        hosts: number of nodes in the hostfile; it counts only where launch.hostfile is set.
    """
    found: list[str] = []
    found.extend(path_problems(config))
    for check in (choice_and_number_problems, source_problems, model_problems, optimizer_problems, _batch, _evaluation):
        found.extend(check(config))
    found.extend(_devices(config, devices))
    found.extend(package_problems(config, devices))
    found.extend(_deepspeed(config, devices))
    found.extend(_launch(config, hosts))
    found.extend(_run(config, run))
    found.extend(_environment())
    return found


def _environment() -> Iterator[str]:
    """Variables that PyTorch's and accelerate's start would fail at, or pass over."""
    for name in THREADS:
        value = os.environ.get(name)
        if value is not None and not re.fullmatch(r"[1-9][0-9]*", value.strip()):
            fix = f"unset {name}, and every rank gets its share of the cores"
            yield f"{name}={value!r} in the environment: must be a whole number of threads, at least 1; {fix}"


def choice_and_number_problems(config: Config) -> Iterator[str]:
    """Numbers outside their range, and names that are not among the choices of their setting."""
    yield from number_problems(config)
    yield from _choices(config)


def _choices(config: Config) -> Iterator[str]:
    stage = STAGES[config.stage]
    fixed: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("model.init", config.model.init, ("pretrained", "scratch")),
        ("data.packing", config.data.packing, stage.packings),
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
        fixed.append((f"data.sources[{number}].format", source.format, stage.formats))
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
    """The counts, up to 512, that divide total / unit, as text; empty when unit does not divide the total."""
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
    if trainer.lr_scheduler_type in schedules.BY_METRIC and (
        trainer.eval_strategy == "no" or config.data.eval_fraction == 0
    ):
        yield (
            f"trainer.lr_scheduler_type={trainer.lr_scheduler_type}: follows the evaluations; "
            f"set data.eval_fraction above 0 and trainer.eval_strategy=steps"
        )
    if trainer.load_best_model_at_end and trainer.save_strategy not in ("best", trainer.eval_strategy):
        yield (
            f"trainer.save_strategy={trainer.save_strategy}: load_best_model_at_end needs a checkpoint at every "
            f"evaluation; set it to {trainer.eval_strategy}, as trainer.eval_strategy, or to best"
        )
    if trainer.load_best_model_at_end and trainer.save_strategy == trainer.eval_strategy == "steps":
        save, evaluate = trainer.save_steps, trainer.eval_steps or trainer.logging_steps
        if (save < 1) != (evaluate < 1):
            yield (
                f"trainer.save_steps={save:g}: load_best_model_at_end keeps the checkpoint of the best evaluation; "
                f"give it and trainer.eval_steps={evaluate:g} both in steps, or both as shares of the run"
            )
        elif evaluate > 0 and round(save * 1_000_000) % round(evaluate * 1_000_000 or 1):  # as transformers does
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
    extra = vars(trainer)
    if extra.get("bf16_full_eval") and devices.on_gpu and not devices.bf16:
        yield f"trainer.bf16_full_eval=true: {devices.name} does not compute in bfloat16; leave it out"
    if extra.get("tf32") and not (devices.on_gpu and devices.bf16):  # both came with Ampere
        which = f"{devices.name} does not compute in TF32" if devices.on_gpu else "there is no GPU"
        yield f"trainer.tf32=true: {which}; leave it out"


def _deepspeed(config: Config, devices: Devices) -> Iterator[str]:
    if config.deepspeed.config is None:
        return
    try:
        values = deepspeed.read(config.deepspeed.config)
    except ValueError as error:
        yield f"deepspeed.config: {error}"
        return
    malformed = deepspeed_rules.malformed(values)
    if malformed:
        yield from (f"deepspeed.config={config.deepspeed.config}: {problem}" for problem in malformed)
        return
    if deepspeed.offloads(values) and not devices.on_gpu:
        yield (
            f"deepspeed.config={config.deepspeed.config}: offloading moves memory off a GPU, and this machine "
            f"has none; set deepspeed=zero{deepspeed.stage(values)}"
        )
    if str(deepspeed_rules.lookup(values, "optimizer.type")).lower() == "lion" and not devices.on_gpu:
        yield f"deepspeed.config={config.deepspeed.config}: DeepSpeed's Lion needs a GPU; take AdamW"
    yield from deepspeed_rules.contradictions(values, config.trainer)


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
    elif port is not None and not launch.node_rank and not ports.is_free(port):
        yield f"launch.master_port={port}: the port is in use; leave it out for a free one"
    for name in ("grace_period_s", "timeout_s", "hang_timeout_s"):
        if getattr(launch, name) <= 0:
            yield f"launch.{name}={getattr(launch, name):g}: must be above 0 seconds"
    if launch.max_restarts < 0:
        yield f"launch.max_restarts={launch.max_restarts}: must be at least 0"


def _run(config: Config, run: RunDir) -> Iterator[str]:
    name, start = config.run.name or "", config.run.resume
    if reason := unfit(name):
        yield f"run.name={name}: {reason}"
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
