"""The checks of the sources, and of the prepared data against the model."""

from collections.abc import Iterator
from pathlib import Path

from trainyard import errors
from trainyard.checks import model_facts
from trainyard.checks.models import model_problems
from trainyard.config.schema import Config
from trainyard.data.conversations import formats
from trainyard.data.sequences import plans
from trainyard.data.sources import files
from trainyard.data.store import TokenStore

KNOWN = (*files.FORMATS, *formats.SOURCES)
"""Formats that this version reads. An unknown format is reported among the choices."""


def path_problems(config: Config) -> Iterator[str]:
    """A message for each path outside data.sources that is an address, as s3://bucket/folder."""
    paths = {
        "paths.outputs": config.paths.outputs,
        "model.path": config.model.path,
        "tokenizer.path": config.tokenizer.path,
        "run.resume": config.run.resume,
        "launch.hostfile": config.launch.hostfile,
        "deepspeed.config": config.deepspeed.config,
        "data.chat_template": config.data.chat_template,
    }
    for name, path in paths.items():
        if problem := files.remote_problem(str(path or "")):
            yield f"{name}={path}: {problem}"


def source_problems(config: Config) -> Iterator[str]:
    """A message for each source that is missing or cannot be read. The hub is not asked."""
    if not config.data.sources:
        yield "data.sources=[]: name at least one, as data.sources=[{path: corpus.jsonl, format: jsonl}]"
    for source in config.data.sources:
        if source.format in KNOWN and (files.container(source) != "hub" or files.remote_problem(source.path)):
            try:
                files.files(source)
            except errors.DataError as error:
                yield from error.problems


def prepared_problems(config: Config) -> Iterator[str]:
    """Mistakes that show once the data is prepared: a corpus without a sequence, ids without embeddings, and so on."""
    yield from model_problems(config)
    store = TokenStore(Path(str(config.data.prepared)))
    made = plans.open_plans(store, config.data, config.run.seed)
    if not len(made.train) and made.train.dropped:
        yield (
            f"data.block_size={config.data.block_size}: every conversation to train on is longer, and nothing is left "
            f"of it by data.truncation={config.data.truncation}; use a larger block, or data.truncation=split"
        )
    elif not len(made.train):
        yield (
            f"data.block_size={config.data.block_size}: the corpus has {made.train.tail} tokens to train on, "
            f"not one sequence; use a smaller block or more text"
        )
    elif made.train.num_tokens == len(made.train):
        yield "data.sources: no sequence has two tokens, one to predict; set data.end_of_text=true, or packing=concat"
    for name in ("early_stopping_patience", "load_best_model_at_end"):
        if getattr(config.trainer, name) and not len(made.held_out):
            yield f"trainer.{name}={getattr(config.trainer, name)}: a corpus of one document leaves none to evaluate on"
    rows = model_facts.read_config(config.model.path).get("vocab_size")
    ids = store.summary.vocab_size - len(config.tokenizer.add_tokens)
    if config.model.init == "pretrained" and isinstance(rows, int) and ids > rows:
        yield (
            f"tokenizer.path={config.tokenizer.path}: it has {ids} ids and the embeddings of {config.model.path} "
            f"have {rows} rows; use the tokenizer that the model was trained with"
        )
