"""The files that `save_pretrained` of transformers and peft writes, byte for byte, by a function of the caller's.

Both libraries write their safetensors files at once, and the training would wait for the disk. Here they write their
configs alone; the tensors are chosen, named and divided by the same functions that they call.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

MAX_SHARD_SIZE = "50GB"
"""The default of transformers 5: a larger model is divided into several files."""

Tensors = dict[str, Tensor]

SaveTensors = Callable[[Tensors, Path], None]
"""Makes a safetensors file."""


def save_tensors(tensors: Tensors, file: Path) -> None:
    """Writes a safetensors file, in the form of transformers, before it returns."""
    safetensors.torch.save_file(tensors, file, {"format": "pt"})


def save_pretrained(
    model: Any,
    directory: Path,
    save: SaveTensors = save_tensors,
    tensors: Tensors | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> None:
    """Saves a model of transformers, or the adapter of a model of peft.

    Args:
        tensors: the state dict, where the model's own is divided among the ranks. Copies of tied weights, which the
            gathering of ZeRO makes, are left out: the file is the same under every stage.
        max_shard_size: of a model of transformers.
    """
    if tensors is not None:
        tied = getattr(model, "all_tied_weights_keys", {})
        tensors = {name: tensor for name, tensor in tensors.items() if name not in tied}
    if is_adapter(model):
        _save_adapter(model, directory, save, tensors)
    else:
        _save_model(model, directory, save, tensors, max_shard_size)


def is_adapter(model: Any) -> bool:
    """Is this a model of peft, of which the adapter alone is saved?"""
    return not isinstance(model, PreTrainedModel)


def _save_model(
    model: PreTrainedModel, directory: Path, save: SaveTensors, tensors: Tensors | None, max_shard_size: int | str
) -> None:
    """The steps of PreTrainedModel.save_pretrained in their order, as of transformers 5.23."""
    model.save_pretrained(directory, state_dict={})  # without a tensor it makes no file for tensors
    tensors = dict(model.state_dict() if tensors is None else tensors)
    for name in model._keys_to_ignore_on_save or ():
        tensors.pop(name, None)
    tensors = remove_tied_weights_from_state_dict(tensors, model)
    tensors = revert_weight_conversion(model, tensors)
    shards = split_torch_state_dict_into_shards(
        tensors, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
    )
    for file, names in shards.filename_to_tensors.items():
        save({name: tensors[name].contiguous() for name in names}, directory / file)
    if shards.is_sharded:
        metadata = {"total_parameters": model.num_parameters(), **shards.metadata}
        index = {"metadata": metadata, "weight_map": shards.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _save_adapter(model: Any, directory: Path, save: SaveTensors, tensors: Tensors | None) -> None:
    """The steps of PeftModel.save_pretrained for the one adapter that a run trains, as of peft 0.21."""
    from peft import get_peft_model_state_dict

    model.save_pretrained(directory, selected_adapters=[])  # the model card alone
    config = model.peft_config["default"]
    # By "auto" peft would save all rows of a table that has grown, beside those that are trained.
    with_embeddings: Any = False if getattr(config, "trainable_token_indices", None) else "auto"
    adapter = get_peft_model_state_dict(model, state_dict=tensors, save_embedding_layers=with_embeddings)
    seen: set[int] = set()
    for name, tensor in adapter.items():
        place = tensor.untyped_storage().data_ptr()
        adapter[name] = (tensor.clone() if place in seen else tensor).contiguous()  # safetensors refuses aliases
        seen.add(place)
    save(adapter, directory / "adapter_model.safetensors")
    config = copy.copy(config)
    config.inference_mode = True
    config.save_pretrained(directory)
