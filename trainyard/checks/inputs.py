"""The checks of the sources, the model and the tokenizer, before the preparation and after it."""

import difflib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainyard import errors
from trainyard.checks.model_config import model_config_problems
from trainyard.checks.packages import quantization_problems
from trainyard.config.schema import ARCHITECTURE, Config
from trainyard.config.stages import STAGES
from trainyard.data.conversations import formats
from trainyard.data.sequences import plans
from trainyard.data.sources import files
from trainyard.data.store import TokenStore
from trainyard.data.tokenization import chat_templates
from trainyard.data.tokenization import tokenizer as tokenizer_files
from trainyard.files import read_json

KNOWN = (*files.FORMATS, *formats.SOURCES)
"""Formats that this version reads. An unknown format is reported among the choices."""


def source_problems(config: Config) -> Iterator[str]:
    """A message for each source that is missing or cannot be read. The hub is not asked."""
    if not config.data.sources:
        yield "data.sources=[]: name at least one, as data.sources=[{path: corpus.jsonl, format: jsonl}]"
    for source in config.data.sources:
        if source.format in KNOWN and files.container(source) != "hub":
            try:
                files.files(source)
            except errors.DataError as error:
                yield from error.problems


def model_problems(config: Config) -> Iterator[str]:
    """Mistakes about the model and the tokenizer, as far as their files are on this machine.

    They are asked for again after the preparation, which downloads the config of a hub id.
    """
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
    elif model.path is None and not _is_known_type(str(model.model_type)):
        yield f"model.model_type={model.model_type}: transformers has no such architecture; as llama, qwen2 or qwen3"
    base = _read_config(model.path)
    yield from model_config_problems(model, base)
    yield from template_variable_problems(config)
    architecture = {
        **base,
        **{k: v for k, v in vars(model).items() if v is not None},
        **model.config,
    }
    yield from quantization_problems(config, architecture)
    context = architecture.get("max_position_embeddings") or architecture.get("n_positions")
    if isinstance(context, int) and config.data.block_size > context:
        yield (
            f"data.block_size={config.data.block_size}: the model's context is {context} tokens "
            f"(its longest position); set data.block_size={context} or less"
        )
    heads, hidden = architecture.get("num_attention_heads"), architecture.get("hidden_size")
    if heads and hidden and "head_dim" not in architecture and hidden % heads:
        yield f"model.hidden_size={hidden}: must be a multiple of num_attention_heads={heads}"
    groups = architecture.get("num_key_value_heads")
    if heads and groups and heads % groups:
        yield f"model.num_attention_heads={heads}: must be a multiple of num_key_value_heads={groups}"


def template_variable_problems(config: Config) -> Iterator[str]:
    """A message for each of data.template_variables that no chat template of the conversations reads."""
    if not config.data.template_variables or not STAGES[config.stage].uses_chat_template:
        return
    given, tokenizer = config.data.chat_template, config.tokenizer.path or config.model.path
    directory = tokenizer_files.local_directory(tokenizer, "tokenizer_config.json") if tokenizer else None
    texts = [given] if given and "{" in given else list(chat_templates.beside(directory).values()) if directory else []
    words = [word for text in texts for word in re.findall(r"\w+", text)]
    for name in config.data.template_variables if words else ():
        if name not in words:
            near = difflib.get_close_matches(name, words, n=1, cutoff=0.7)
            hint = f" Did you mean {near[0]}?" if near else " Leave it out"
            yield f"data.template_variables.{name}: the chat template reads no such variable.{hint}"


def _local_path(name: str, path: str | None, wanted: str) -> Iterator[str]:
    if path is None or not tokenizer_files.looks_local(path):
        return
    directory = Path(path).expanduser()
    if not directory.is_dir():
        yield f"{name}={path}: there is no such directory. Give a directory with a {wanted}, or a hub id"
    elif not (directory / wanted).is_file():
        yield f"{name}={path}: holds no {wanted}. Give a directory that save_pretrained wrote"


def _read_config(path: str | None) -> dict[str, Any]:
    """The config.json of a local or downloaded model; empty when it is not on this machine yet."""
    directory = tokenizer_files.local_directory(path, "config.json") if path else None
    return read_json(directory / "config.json") if directory else {}


def _is_known_type(model_type: str) -> bool:
    spec = importlib.util.find_spec("transformers")
    folder = Path(str(spec.origin)).parent / "models" if spec else Path()
    return (folder / model_type.replace("-", "_")).is_dir() or not folder.is_dir()


def prepared_problems(config: Config) -> Iterator[str]:
    """Mistakes that show once the data is prepared: a corpus without a sequence, ids without embeddings, and so on."""
    yield from model_problems(config)
    store = TokenStore(Path(str(config.data.prepared)))
    made = plans.open_plans(store, config.data, config.run.seed)
    if not len(made.train):
        yield (
            f"data.block_size={config.data.block_size}: the corpus has {made.train.tail} tokens to train on, "
            f"not one sequence; use a smaller block or more text"
        )
    elif made.train.num_tokens == len(made.train):
        yield "data.sources: no sequence has two tokens, one to predict; set data.end_of_text=true, or packing=concat"
    for name in ("early_stopping_patience", "load_best_model_at_end"):
        if getattr(config.trainer, name) and not len(made.held_out):
            yield f"trainer.{name}={getattr(config.trainer, name)}: a corpus of one document leaves none to evaluate on"
    rows = _read_config(config.model.path).get("vocab_size")
    ids = store.summary.vocab_size - len(config.tokenizer.add_tokens)
    if config.model.init == "pretrained" and isinstance(rows, int) and ids > rows:
        yield (
            f"tokenizer.path={config.tokenizer.path}: it has {ids} ids and the embeddings of {config.model.path} "
            f"have {rows} rows; use the tokenizer that the model was trained with"
        )
