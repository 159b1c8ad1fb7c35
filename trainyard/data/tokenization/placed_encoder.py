"""Text to the ids that it has where it stands: at a start, or behind other text.

Most tokenizers give a text the same ids everywhere. SentencePiece tokenizers put a space before the first word: "yard"
is "▁yard" at the start, for some of them also behind every special token, and "yard" behind "[/INST]".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainyard.data.tokenization.encoded import Tokens
from trainyard.data.tokenization.text_encoder import TextEncoder

LEADS = ("\n", ":", "a")
"""Stand-ins for the text before, where that is a special token or shares a token with the text: the first of these that
shares no token with it is used."""


class PlacedEncoder:
    """Encodes texts where they stand. Text that spells a special token stays text.

    Attributes:
        text: the encoder of texts that stand at a start.
        behind_special: does a text behind a special token continue a text, rather than start one?
    """

    def __init__(self, tokenizer: Any, sample: Sequence[str] = (), *, fast: bool = False):
        """See TextEncoder for `sample` and `fast`."""
        self.text = TextEncoder(tokenizer, sample, fast=fast, surround=False)
        unknown = tokenizer.unk_token_id  # one token may stand for several characters in a row
        self._leads = [lead for lead in LEADS if self._ids(lead) and unknown not in self._ids(lead)]
        self._is_same_everywhere = any(
            all(self._ids(lead + text) == self._ids(lead) + self._ids(text) for text in ("yard", " yard"))
            for lead in self._leads
        )
        special = tokenizer.eos_token
        whole = tokenizer(f"{special}yard", add_special_tokens=False)["input_ids"]
        self.behind_special = whole != [tokenizer.convert_tokens_to_ids(special), *self._ids("yard")]

    def __call__(self, texts: list[str], before: Sequence[str | None]) -> Tokens:
        """The ids of every text.

        Args:
            before: for each text the text before it, which is encoded by itself; empty behind a special token where
                behind_special holds; None where the text starts.
        """
        if self._is_same_everywhere or all(text is None for text in before):
            return self.text(texts)
        starting = [number for number, text in enumerate(before) if text is None]
        found = dict(zip(starting, self.text([texts[number] for number in starting]).documents(), strict=True))
        for leads in (before, *([lead] * len(texts) for lead in self._leads)):
            rest = [number for number in range(len(texts)) if number not in found and leads[number]]
            heads = self.text([f"{leads[number]}" for number in rest]).documents()
            wholes = self.text([f"{leads[number]}{texts[number]}" for number in rest]).documents()
            for number, head, whole in zip(rest, heads, wholes, strict=True):
                if np.array_equal(whole[: len(head)], head):
                    found[number] = whole[len(head) :]
        return Tokens.concatenate(
            [found[number] if number in found else self.text([text]).ids for number, text in enumerate(texts)]
        )

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.text([text]).ids.tolist()
        return ids
