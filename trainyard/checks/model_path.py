"""What model.path and tokenizer.path may name: the directory of a model, a run, a checkpoint or an adapter."""

from collections.abc import Iterator
from pathlib import Path

from trainyard import COMMAND
from trainyard.checkpoint.directory import list_checkpoints
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.rundir.directory import RunDir

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")

ADAPTER = "adapter_config.json"


def inside_run(path: str | None, wanted: str) -> str | None:
    """The model's directory of a run, if `path` is a run's directory and `wanted` lies in its model; else None."""
    directory = _directory(path)
    if directory is None or (directory / wanted).is_file() or not RunDir(directory).config.is_file():
        return None
    model = RunDir(directory).model
    return str(model) if (model / wanted).is_file() else None


def model_problem(path: str | None, *, pretrained: bool) -> Iterator[str]:
    """A message for a directory that no model can be loaded from.

    Args:
        pretrained: weights are wanted, not the architecture alone.
    """
    if path is None or not tokenizers.looks_local(path):
        return
    directory = _directory(path)
    if directory is None:
        yield f"model.path={path}: there is no such directory. Give a directory with a config.json, or a hub id"
    elif (directory / "config.json").is_file():
        if pretrained and not any(any(directory.glob(pattern)) for pattern in WEIGHTS):
            fix = "set model.init=scratch for its architecture"
            yield f"model.path={path}: holds no weights{_checkpoint(directory)}; {fix}"
    else:
        yield f"model.path={path}: {_what(directory)}"


def _what(directory: Path) -> str:
    """What a directory without config.json is, and what to give instead."""
    run, checkpoints = RunDir(directory), list_checkpoints(directory)
    for place in (directory, run.model):
        if (place / ADAPTER).is_file():
            return (
                f"holds an adapter and not a model. `{COMMAND} export {directory} DIRECTORY` merges it into its base; "
                f"give that directory"
            )
    if run.config.is_file():
        return f"this run has left no model yet. Let it end, or give a checkpoint of {run.checkpoints}"
    if checkpoints:
        return f"holds checkpoints. Give one of them, as {checkpoints[0][1]}"
    return "holds no config.json. Give a directory that save_pretrained wrote"


def _checkpoint(directory: Path) -> str:
    divided = any(directory.glob("global_step*"))
    return ", as the ranks of this checkpoint divide them; let its run end, and give its model" if divided else ""


def _directory(path: str | None) -> Path | None:
    if path is None or not tokenizers.looks_local(path):
        return None
    directory = Path(path).expanduser()
    return directory if directory.is_dir() else None
