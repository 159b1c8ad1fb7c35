"""Finding, training and loading the tokenizer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainyard.compat import save_legacy
from trainyard.data.tokenization import chat_templates
from trainyard.errors import DataError
from trainyard.files import first_line, staged

NOT_TOKENIZER = re.compile(
    r"(.*\.(safetensors|bin|pt|pth|h5|msgpack|onnx|gguf|md|index\.json)|(generation_)?config\.json|\..*)"
)
"""Files beside a tokenizer that decide no id. All others are in the fingerprint: every family has its own names."""


_NAMES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""A tokenizer of the hub has at least one of these files."""


END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"


SPECIAL_TOKENS = (END_OF_TEXT, PAD, "<|im_start|>", "<|im_end|>")
"""Special tokens of a tokenizer trained here. The last two are for chat, so that fine-tuning adds no tokens."""


TRAINING_BYTES = 32 << 20
"""A tokenizer is trained on at most so many bytes from the start of the corpus."""


def looks_local(path: str) -> bool:
    """Does the path mean a directory rather than a hub id (`name` or `owner/name`)?"""
    return path.startswith(("/", ".", "~")) or path.count("/") > 1 or Path(path).exists()


def local_directory(path: str, file: str) -> Path | None:
    """The local directory of a directory or hub id; None for a hub id whose `file` was never downloaded."""
    if looks_local(path):
        return Path(path).expanduser()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, file)
    except HFValidationError:  # neither a directory nor an id: loading says so
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def local_files(path: str) -> list[Path]:
    """The tokenizer's files on this machine; none for a hub id that was never downloaded."""
    places = (local_directory(path, name) for name in _NAMES)
    directory = next((place for place in places if place is not None and place.is_dir()), None)
    if directory is None:
        return []
    files = [*directory.iterdir(), *(directory / chat_templates.FOLDER).glob("*.jinja")]
    return [file for file in sorted(files) if file.is_file() and not NOT_TOKENIZER.fullmatch(file.name)]


def load(path: str, *, trust_remote_code: bool = False, chat_template: str | None = None) -> Any:
    """The tokenizer of a directory or hub id.

    Args:
        chat_template: the source that takes the place of the tokenizer's own, or the name of one of its own.

    Raises:
        DataError: there is no tokenizer, or it has no end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"no tokenizer could be loaded from {path}: {first_line(error)} "
            f"Set tokenizer.path to a directory or a hub id"
        ) from error
    own = tokenizer.chat_template or chat_templates.processors(_processors_file(path))
    tokenizer.chat_template = chat_templates.chosen(own, chat_template)
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"the tokenizer of {path} has no end-of-text token, which closes every document. "
            f"Set eos_token in its tokenizer_config.json"
        )
    save_legacy(tokenizer)
    return tokenizer


def _processors_file(path: str) -> str | None:
    """The chat_template.json of a directory or hub id, which no tokenizer reads; None if there is none."""
    from transformers.utils import cached_file

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(path, "chat_template.json", **quiet)
    return str(found) if found else None


def vocab_size(tokenizer: Any) -> int:
    """The number of embedding rows that a tokenizer needs; more than its length when its ids have gaps."""
    return max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)


def train(texts: Iterator[str], vocab_size: int, directory: Path) -> None:
    """Trains a byte-level BPE (Sennrich et al., 2016; Radford et al., 2019) and saves it for from_pretrained.

    Every text can be encoded: the 256 bytes are in the vocabulary. Other processes see the whole directory or nothing.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_head(texts, TRAINING_BYTES), trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=PAD)
    publish(wrapped, directory)


def publish(tokenizer: Any, directory: Path) -> None:
    """Saves a tokenizer in one step: other processes see the whole directory or nothing."""
    with staged(directory, shared=True) as staging:
        tokenizer.save_pretrained(staging)


def _head(texts: Iterator[str], limit: int) -> Iterator[str]:
    """The first texts, up to about `limit` bytes."""
    seen = 0
    for text in texts:
        yield text
        seen += len(text.encode("utf-8"))
        if seen >= limit:
            return


def special_ids(tokenizer: Any) -> dict[str, int | None]:
    """The ids that a model's config names: bos_token_id, eos_token_id and pad_token_id."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
