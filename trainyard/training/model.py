"""The model of a run, sized by its tokenizer."""

from collections.abc import Callable
from typing import Any

from trainyard.config.schema import Config
from trainyard.data.tokenization import added_tokens
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.model import build


def build_model(config: Config, tokenizer: Any, say: Callable[[str], None] = print) -> Any:
    """The causal language model of a config, in float32, with a row for every id of the tokenizer.

    After build_arguments, so that ZeRO-3 partitions it while it is built.

    Raises:
        ValueError: see trainyard.model.build.build.
    """
    return build.build(
        config.model,
        vocab_size=tokenizers.vocab_size(tokenizer),
        special_ids=tokenizers.special_ids(tokenizer),
        seed=config.run.seed,
        own_vocab=config.model.path is None,
        added=added_tokens.ids(tokenizer, config.tokenizer.add_tokens),
        say=say,
    )
