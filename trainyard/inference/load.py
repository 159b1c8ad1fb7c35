"""A model and its tokenizer from a run, a checkpoint, a model's directory, an adapter on its base, or the hub."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import find_adapter_config_file
from transformers.utils import logging as transformers_logging

from trainyard.config import saved
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.files import first_line
from trainyard.model import generation
from trainyard.rundir.directory import RunDir

WHAT = "Give the directory of a finished run, of a model or of an adapter, or a hub id"


class Loaded(NamedTuple):
    """A model, ready to generate."""

    model: Any
    """In eval mode; with adapters a PeftModel."""
    tokenizer: Any
    variables: dict[str, Any]
    """The variables that the run gave to its chat template (data.template_variables)."""


def locate(path: str) -> str:
    """The directory of the model or adapter that `path` names. A hub id is returned unchanged.

    Raises:
        DataError: there is no such directory, or it holds neither.
    """
    if not tokenizers.looks_local(path):
        return path
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise DataError(f"{path}: there is no such directory. {WHAT}")
    run = RunDir(directory)
    for candidate in (directory, run.model):
        if any((candidate / name).is_file() for name in ("config.json", "adapter_config.json")):
            return str(candidate)
    if run.config.is_file():
        raise DataError(f"{path}: this run has left no model yet; let it end, or give one of {run.checkpoints}/")
    raise DataError(f"{path}: holds neither config.json nor adapter_config.json. {WHAT}")


def has_adapter(place: str) -> bool:
    """True when a directory or hub id holds an adapter instead of a whole model."""
    return find_adapter_config_file(place) is not None


def load(
    path: str, *, dtype: torch.dtype | None = None, device: str | None = None, trust_remote_code: bool = False
) -> Loaded:
    """The model behind a run's directory, a model's, an adapter's or a hub id.

    Args:
        dtype: of the weights; None means bfloat16 on a GPU that computes in it, and float32 elsewhere.
        device: None means the GPU if there is one.

    Raises:
        DataError: no model can be loaded from there.
    """
    place = locate(path)
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        has_bf16 = device != "cpu" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if has_bf16 else torch.float32
    adapter = _adapter_config(place) if has_adapter(place) else None
    base = adapter.base_model_name_or_path if adapter else place
    with _explained(path):
        revision = {"revision": adapter.revision} if adapter and adapter.revision else {}
        readable, _ = generation.load(base)
        mended = {"generation_config": readable} if readable else {}
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, trust_remote_code=trust_remote_code, **revision, **mended
        )
    tokenizer = _tokenizer(place, base, trust_remote_code)
    if adapter:
        from peft import PeftModel

        if len(tokenizer) > len(model.get_input_embeddings().weight):  # the adapter brings the rows of added tokens
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with _explained(path):
            model = PeftModel.from_pretrained(model, place)
    return Loaded(model.to(device).eval(), tokenizer, _variables(Path(place)))


def _adapter_config(place: str) -> Any:
    from peft import PeftConfig

    with _explained(place):
        config = PeftConfig.from_pretrained(place)
    base = config.base_model_name_or_path
    if config.is_prompt_learning:
        raise DataError(f"{place}: peft_type={config.peft_type.value}: only adapters of weights are known, as LORA")
    if not base or (tokenizers.looks_local(base) and not (Path(base) / "config.json").is_file()):
        raise DataError(
            f"{place}: its base model {base} is not there; put it back, start from the directory in which the run was "
            f"started if that is a relative path, or set base_model_name_or_path in its adapter_config.json"
        )
    return config


def _tokenizer(place: str, base: str, trust_remote_code: bool) -> Any:
    if place != base:  # adapters from elsewhere come without one
        with contextlib.suppress(DataError):
            return tokenizers.load(place, trust_remote_code=trust_remote_code)
    if tokenizers.looks_local(base) and not any(Path(base).glob("*token*")):
        raise DataError(f"{base}: holds no tokenizer; save it there with save_pretrained")
    return tokenizers.load(base, trust_remote_code=trust_remote_code)


def _variables(directory: Path) -> dict[str, Any]:
    """The template variables of the run that a model or a checkpoint belongs to; empty outside a run."""
    for run in (RunDir(directory.parent), RunDir(directory.parent.parent)):
        if run.config.is_file() and run.status.is_file():
            return saved.load(run.config).data.template_variables
    return {}


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{path}: it cannot be loaded: {first_line(error)} {WHAT}") from error
