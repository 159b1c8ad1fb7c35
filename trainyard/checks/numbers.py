"""The checks of single settings whose value has a range or a form: numbers, shares, columns, tokens."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from trainyard.checks import model_facts
from trainyard.checks.arguments import argument_problems
from trainyard.config import schedules
from trainyard.config.saved import flat
from trainyard.config.schema import (
    ARCHITECTURE,
    PROFILE_AFTER,
    Config,
    DataConfig,
    PeftConfig,
    SourceConfig,
    TrainerConfig,
)
from trainyard.data.conversations import formats
from trainyard.data.sources import files
from trainyard.data.tokenization import added_tokens
from trainyard.data.tokenization import tokenizer as tokenizers


def number_problems(config: Config) -> Iterator[str]:
    """A message for each setting outside its range. A NaN lies in no range, and infinity is no bound of ours."""
    numbers = flat({name: value for name, value in asdict(config).items() if name != "stage"})
    numbers |= {
        f"data.sources[{n}].{name}": value
        for n, each in enumerate(config.data.sources)
        for name, value in vars(each).items()
    }
    endless = [name for name, value in numbers.items() if isinstance(value, float) and not math.isfinite(value)]
    endless = [name for name in endless if not name.startswith("model.config.")]
    yield from (f"{name}={numbers[name]}: must be a finite number" for name in endless)
    with_endless = tuple(f"{name}=" for name in endless)
    yield from (problem for problem in _out_of_range(config) if not problem.startswith(with_endless))


def _out_of_range(config: Config) -> Iterator[str]:
    yield from _at_least_one(config)
    yield from argument_problems(config.trainer)
    yield from schedules.problems(config.trainer)
    if not 0 <= config.tracking.samples <= 1000:
        yield f"tracking.samples={config.tracking.samples}: must be from 0 to 1000"
    if config.run.profile_steps < 0:
        yield f"run.profile_steps={config.run.profile_steps}: must be at least 0"
    elif config.run.profile_steps and 0 < config.trainer.max_steps <= PROFILE_AFTER:
        least = PROFILE_AFTER + config.run.profile_steps
        yield (
            f"run.profile_steps={config.run.profile_steps}: a trace begins after {PROFILE_AFTER} steps; "
            f"set trainer.max_steps={least} or more"
        )
    if not 0 <= config.run.seed < 2**32:
        yield f"run.seed={config.run.seed}: must be at least 0 and below 2^32"
    yield from _trainer(config.trainer)
    yield from _data(config.data)
    yield from _template(config)
    yield from _peft(config.peft)
    try:
        added_tokens.parse(config.tokenizer.add_tokens)
    except ValueError as error:
        yield f"tokenizer.add_tokens: {error}"
    if config.tokenizer.vocab_size < 300:
        yield f"tokenizer.vocab_size={config.tokenizer.vocab_size}: must be at least 300, for 256 bytes and some merges"


def _at_least_one(config: Config) -> Iterator[str]:
    trainer = config.trainer
    values: dict[str, Any] = {
        "trainer.per_device_train_batch_size": trainer.per_device_train_batch_size,
        "trainer.per_device_eval_batch_size": trainer.per_device_eval_batch_size,
        "trainer.global_batch_size": trainer.global_batch_size,
        "trainer.gradient_accumulation_steps": trainer.gradient_accumulation_steps,
        "trainer.save_total_limit": trainer.save_total_limit,
        "trainer.early_stopping_patience": trainer.early_stopping_patience,
        "trainer.max_bad_steps": trainer.max_bad_steps,
        "data.max_sequences": config.data.max_sequences,
        "launch.num_devices": config.launch.num_devices,
        "tracking.sample_tokens": config.tracking.sample_tokens,
        **{f"model.{name}": getattr(config.model, name) for name in ARCHITECTURE if name != "tie_word_embeddings"},
    }
    for name, value in values.items():
        if value is not None and value < 1:
            yield f"{name}={value}: must be at least 1"


def _trainer(trainer: TrainerConfig) -> Iterator[str]:
    if trainer.learning_rate is not None and trainer.learning_rate <= 0:
        yield f"trainer.learning_rate={trainer.learning_rate}: must be above 0"
    if not trainer.spike_deviations > 0:
        yield f"trainer.spike_deviations={trainer.spike_deviations}: must be above 0; 6 passes over ordinary noise"
    if not 10 <= trainer.spike_window <= 100_000:
        yield f"trainer.spike_window={trainer.spike_window}: must be from 10 to 100,000 steps, for a mean to mean much"
    if trainer.max_steps <= 0 and trainer.num_train_epochs <= 0:
        yield f"trainer.num_train_epochs={trainer.num_train_epochs}: must be above 0, or set trainer.max_steps"
    for name in ("logging_steps", "save_steps", "eval_steps"):
        value = getattr(trainer, name)
        if value is not None and (value <= 0 or (value > 1 and value % 1)):
            yield f"trainer.{name}={value}: must be a whole number of steps, or a share of the run between 0 and 1"


def _peft(peft: PeftConfig) -> Iterator[str]:
    if peft.r < 1:
        yield f"peft.r={peft.r}: must be at least 1"
    if not 0 <= peft.dropout < 1:
        yield f"peft.dropout={peft.dropout}: must be at least 0 and below 1"
    targets = peft.target_modules
    named = targets if isinstance(targets, list) else [targets]
    if peft.method and not (named and all(isinstance(name, str) and name for name in named)):
        yield f"peft.target_modules={targets}: must be names of layers, as [q_proj, v_proj], a regex, or all-linear"


def _template(config: Config) -> Iterator[str]:
    """A template that is no source by now; names of a tokenizer that is not on this machine yet are left to it."""
    name, tokenizer = config.data.chat_template, model_facts.tokenizer_of(config)
    is_here = not tokenizer or tokenizers.local_directory(tokenizer, "tokenizer_config.json") is not None
    if name is not None and "{" not in name and is_here:
        yield (
            f"data.chat_template={name}: must be chatml, plain, a file with a Jinja template, or the name of one of "
            f"the tokenizer's templates"
        )


def _data(data: DataConfig) -> Iterator[str]:
    if data.sequence_length < 2:
        yield f"data.block_size={data.block_size}: must be at least 2 tokens, for one to predict"
    if not 0 <= data.eval_fraction < 1:
        yield f"data.eval_fraction={data.eval_fraction}: must be at least 0 and below 1"
    if not 0 <= data.max_rejected < 1:
        yield f"data.max_rejected={data.max_rejected}: a share of the documents, at least 0 and below 1"
    if not 0 <= data.max_dropped <= 1:
        yield f"data.max_dropped={data.max_dropped}: a share of the conversations, from 0 to 1"
    if not 0 < data.max_document_mb <= 1e6:
        yield f"data.max_document_mb={data.max_document_mb}: must be above 0, and a million at most"
    yield from _shares(data)


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
    elif source.format in files.FORMATS and not (isinstance(given, list) and len(given) == 1):
        yield f"{place}={given}: must be a list of one column, the one that holds the text, as [text]"
    known = formats.COLUMNS.get(source.format)
    if known and (not isinstance(given, dict) or not given.keys() <= set(known)):
        yield f"{place}={given}: must give columns of {source.format} other names, as {{{known[0]}: question}}"
