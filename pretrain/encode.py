"""Text to token ids for pretraining: the ids that the tokenizer gives, then end-of-text."""

from collections.abc import Sequence
from typing import Any

from trainyard.config.schema import DataConfig
from trainyard.data.tokenization.encoded import Tokens, close
from trainyard.data.tokenization.text_encoder import TextEncoder


class Encoder:
    """Turns texts into ids. With data.end_of_text every document ends with one end-of-text token, never with two.

    Attributes:
        name: the backend that encodes the text.
        reason: why that backend was chosen.
    """

    def __init__(self, tokenizer: Any, sample: Sequence[str], data: DataConfig, *, fast: bool = True):
        """`sample` is the start of the corpus, on which the fast backend is verified; see TextEncoder."""
        self.text = TextEncoder(tokenizer, sample, allow_special=data.allow_special_tokens, fast=fast)
        self.name, self.reason = self.text.name, self.text.reason
        self._end = tokenizer.eos_token_id if data.end_of_text else None

    def __call__(self, texts: list[str]) -> Tokens:
        """The tokens of the texts."""
        tokens = self.text(texts)
        return tokens if self._end is None else close(tokens, self._end)
