"""What the files of a model and a tokenizer tell without torch: the architecture, its size, and the chat template."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config import architectures
from trainyard.config.schema import ARCHITECTURE, Config, ModelConfig
from trainyard.data.tokenization import chat_templates
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.files import read_json

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
"""The tokens of data.chat_template=chatml."""

_LARGEST_HEADER = 100_000_000
"""Bytes; the format allows no more."""


def read_config(path: str | None) -> dict[str, Any]:
    """The config.json of a local or downloaded model; empty when it is not on this machine yet."""
    directory = tokenizers.local_directory(path, "config.json") if path else None
    return read_json(directory / "config.json") if directory else {}


def architecture(model: ModelConfig) -> dict[str, Any]:
    """The attributes of the model's config as far as they are known: its file's, and the settings over them.

    Those of a model's language part stand among its own.
    """
    found = read_config(model.path)
    inner = found.get("text_config")
    shape = {name: getattr(model, name) for name in ARCHITECTURE if getattr(model, name) is not None}
    return {**found, **(inner if isinstance(inner, dict) else {}), **shape, **model.config}


def context(values: dict[str, Any]) -> int | None:
    """The longest sequence that an architecture takes, in tokens; None where it is not known."""
    found = values.get("max_position_embeddings") or values.get("n_positions")
    return found if isinstance(found, int) else None


def width_and_depth(values: dict[str, Any]) -> tuple[int, int] | None:
    """The hidden size and the number of layers of an architecture; None where its config does not tell."""
    hidden = values.get("hidden_size") or values.get("n_embd")
    layers = values.get("num_hidden_layers") or values.get("n_layer")
    return (hidden, layers) if isinstance(hidden, int) and isinstance(layers, int) else None


def parameters(values: dict[str, Any], vocab_size: int) -> int | None:
    """About how many parameters an architecture has, embeddings included; None where its config does not tell.

    Args:
        vocab_size: of a config that names none.
    """
    if (found := width_and_depth(values)) is None:
        return None
    hidden, layers = found
    heads = values.get("num_attention_heads") or values.get("n_head") or 1
    head = values.get("head_dim") or hidden // heads
    pairs = values.get("num_key_value_heads") or heads
    wide = values.get("moe_intermediate_size") or values.get("intermediate_size") or 4 * hidden
    experts = values.get("num_local_experts") or values.get("num_experts") or values.get("n_routed_experts") or 1
    matrices = 3 if "intermediate_size" in values else 2  # gated feed-forward layers have one more
    tables = (1 if values.get("tie_word_embeddings") else 2) * (values.get("vocab_size") or vocab_size) * hidden
    layer = 2 * hidden * head * (heads + pairs) + experts * matrices * hidden * wide
    return int(tables + layers * layer)


def size(config: Config) -> int | None:
    """About how many parameters the model of a config has; None where that is not known before it is downloaded."""
    return parameters(architecture(config.model), config.tokenizer.vocab_size)


def has_chat_template(path: str) -> bool | None:
    """Does a tokenizer bring a chat template? None while its files are not on this machine."""
    directory = tokenizers.local_directory(path, "tokenizer_config.json")
    return bool(chat_templates.beside(directory)) if directory and directory.is_dir() else None


def knows_chatml(path: str) -> bool:
    """Are the tokens of chatml among the special tokens of a local tokenizer?"""
    files = {file.name: file for file in tokenizers.local_files(path)}
    added: list[Any] = []
    for name, key in (("tokenizer.json", "added_tokens"), ("tokenizer_config.json", "added_tokens_decoder")):
        found = read_json(files[name]).get(key) if name in files else None
        added += list(found.values()) if isinstance(found, dict) else found or []
    special = {token.get("content") for token in added if isinstance(token, dict) and token.get("special")}
    return special.issuperset(CHATML_TOKENS)


def tokenizer_of(config: Config) -> str | None:
    """The directory or hub id of the tokenizer that a run takes or extends; None for one that is trained here."""
    return config.tokenizer.path or config.model.path


@dataclass(frozen=True)
class LayerNames:
    """The names of a model's layers, as far as they can be told without building it."""

    whole: frozenset[str]
    """As model.layers.0.self_attn.q_proj, from the weights; empty where they are not on this machine."""
    last: frozenset[str]
    """Last parts of names, from the weights or else from the architecture's code; empty where nothing is known."""
    code: frozenset[str]
    """Last parts, from the code alone: a file of weights may name experts otherwise than the model does."""

    def has(self, target: str) -> bool:
        """Is a layer called so, by its whole name or the end of it? True where nothing is known."""
        if not self.last or target.rpartition(".")[2] in self.code:
            return True
        return any(name == target or name.endswith(f".{target}") for name in self.whole)

    def examples(self) -> str:
        """Names for a message, those of projections first."""
        return ", ".join(sorted(self.last, key=lambda name: ("proj" not in name, name))[:8])


def layer_names(config: Config) -> LayerNames:
    """The layers of the model of a config: those of its weights, or the names in the architecture's code."""
    path = config.model.path
    directory = tokenizers.local_directory(path, "config.json") if path else None
    whole = frozenset(_layers_of_weights(directory)) if directory else frozenset[str]()
    code = architectures.layers(str(config.model.model_type or read_config(path).get("model_type")))
    return LayerNames(whole, frozenset(name.rpartition(".")[2] for name in whole) or code, code)


def _layers_of_weights(directory: Path) -> Iterator[str]:
    """The layers with a matrix in a model's safetensors files: their headers are read, not the tensors."""
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= _LARGEST_HEADER else {}
        for name, tensor in header.items():
            if name.endswith(".weight") and len(tensor.get("shape", ())) == 2:
                yield name.removesuffix(".weight")
