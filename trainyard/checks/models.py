"""The checks of the model and the tokenizer, as far as their files are on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path

from trainyard.checks import model_facts, model_path
from trainyard.checks.model_config import model_config_problems
from trainyard.checks.packages import quantization_problems
from trainyard.config import architectures, rope
from trainyard.config.schema import ARCHITECTURE, Config
from trainyard.config.stages import STAGES
from trainyard.data.tokenization import chat_templates
from trainyard.data.tokenization import tokenizer as tokenizer_files
from trainyard.errors import did_you_mean


def model_problems(config: Config) -> Iterator[str]:
    """Mistakes about the model and the tokenizer, as far as their files are on this machine.

    They are asked for again after the preparation, which downloads the config of a hub id.
    """
    model, tokenizer = config.model, config.tokenizer
    yield from model_path.model_problem(model.path, pretrained=model.init == "pretrained")
    yield from _local_path("tokenizer.path", tokenizer.path, "tokenizer_config.json")
    yield from _template(config)
    yield from template_variable_problems(config)
    yield from _code(config)
    yield from _config(config)
    yield from _targets(config)
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
    elif model.path is None and not architectures.is_known(str(model.model_type)):
        yield f"model.model_type={model.model_type}: transformers has no such architecture; as llama, qwen2 or qwen3"
    yield from _shape(config)


def _shape(config: Config) -> Iterator[str]:
    """Numbers of the architecture that do not go together, and sequences that are longer than it takes."""
    architecture = model_facts.architecture(config.model)
    yield from quantization_problems(config, architecture)
    context = model_facts.context(architecture)
    if context is not None and config.data.sequence_length > context:
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


def _code(config: Config) -> Iterator[str]:
    """A message for a model whose config transformers can only read with code that comes with it."""
    model, found = config.model, model_facts.read_config(config.model.path)
    brought = found.get("auto_map")
    if brought and not model.trust_remote_code and not architectures.is_known(str(found.get("model_type"))):
        yield (
            f"model.trust_remote_code=false: model.path={model.path} is of the type {found.get('model_type')}, which "
            f"transformers knows only by Python code that comes with the model; read that code, and set "
            f"model.trust_remote_code=true if you trust it"
        )


def _config(config: Config) -> Iterator[str]:
    """A message for each key of model.config that the architecture or its rotary embeddings do not have."""
    model, found = config.model, model_facts.read_config(config.model.path)
    yield from model_config_problems(model, found)
    yield from rope.problems(model.config, rope.of_config(found))


def _targets(config: Config) -> Iterator[str]:
    """A message for each of peft.target_modules that matches no layer."""
    targets = config.peft.target_modules
    if config.peft.method is None or targets == "all-linear":
        return
    names = model_facts.layer_names(config)
    if isinstance(targets, str) and names.whole and not any(re.fullmatch(targets, name) for name in names.whole):
        yield f"peft.target_modules={targets}: the expression matches no layer whole; there are {names.examples()}"
    for target in targets if isinstance(targets, list) else []:
        if isinstance(target, str) and not names.has(target):
            hint = did_you_mean(target.rpartition(".")[2], names.last, f"there are {names.examples()}")
            yield f"peft.target_modules: no layer of the model is called {target}; {hint[0].lower()}{hint[1:]}"


def template_variable_problems(config: Config) -> Iterator[str]:
    """A message for each of data.template_variables that no chat template of the conversations reads."""
    if not config.data.template_variables or not STAGES[config.stage].uses_chat_template:
        return
    given, tokenizer = config.data.chat_template, model_facts.tokenizer_of(config)
    directory = tokenizer_files.local_directory(tokenizer, "tokenizer_config.json") if tokenizer else None
    texts = [given] if given and "{" in given else list(chat_templates.beside(directory).values()) if directory else []
    words = [word for text in texts for word in re.findall(r"\w+", text)]
    for name in config.data.template_variables if words else ():
        if name not in words:
            hint = did_you_mean(name, words, "Leave it out", cutoff=0.7)
            yield f"data.template_variables.{name}: the chat template reads no such variable. {hint}"


def _template(config: Config) -> Iterator[str]:
    """A message if fine-tuning has no chat template; see own_values.chat_template."""
    path = model_facts.tokenizer_of(config)
    wanted = STAGES[config.stage].uses_chat_template and config.data.chat_template is None and path is not None
    if wanted and model_facts.has_chat_template(str(path)) is False:
        tokens = ", ".join(f"'{token}'" for token in model_facts.CHATML_TOKENS)
        yield (
            f"data.chat_template=null: the tokenizer of {path} has no chat template; set data.chat_template=plain or a "
            f"file with a Jinja template, or chatml with tokenizer.add_tokens=[{tokens}]"
        )


def _local_path(name: str, path: str | None, wanted: str) -> Iterator[str]:
    if path is None or not tokenizer_files.looks_local(path):
        return
    directory = Path(path).expanduser()
    if not directory.is_dir():
        yield f"{name}={path}: there is no such directory. Give a directory with a {wanted}, or a hub id"
    elif not (directory / wanted).is_file():
        yield f"{name}={path}: holds no {wanted}. Give a directory that save_pretrained wrote"
