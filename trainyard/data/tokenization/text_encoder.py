"""Text to the tokenizer's ids: by gigatoken where it is verified to give the same ids, else by `tokenizers`.

With either backend the ids of a text are those of `tokenizer(text)["input_ids"]`, and text that spells a special token
is plain text unless special tokens are allowed.
"""

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from trainyard.data.tokenization.encoded import Tokens
from trainyard.data.tokenization.encoded import surround as put_around
from trainyard.data.tokenization.tokenizer import vocab_size
from trainyard.errors import BackendMismatchError
from trainyard.files import first_line

PROOF_CHARACTERS = 1_000_000
"""Characters at the start of the corpus that are encoded by both backends before gigatoken is trusted."""


RENEW_CHARACTERS = 200_000_000
"""After so many characters gigatoken starts again with an empty cache: it remembers every word that it meets."""


Backend = Callable[[list[str]], Tokens]
"""Texts to their ids."""


class TextEncoder:
    """Encodes texts with the fastest backend that is right for this tokenizer and this corpus.

    Attributes:
        name: the backend: gigatoken or tokenizers (transformers for a tokenizer written in Python).
        reason: why that backend was chosen.
    """

    def __init__(
        self,
        tokenizer: Any,
        sample: Sequence[str],
        *,
        allow_special: bool = False,
        fast: bool = True,
        surround: bool = True,
    ):
        """
        Args:
            sample: the start of the corpus, on which gigatoken is verified.
            allow_special: let text that spells a special token become that token.
            fast: try gigatoken; otherwise use the reference backend.
            surround: put the ids around a text that the tokenizer puts there, such as a begin-of-text token.
        """
        self._control = np.zeros(vocab_size(tokenizer), dtype=bool)
        if not allow_special:
            self._control[list({*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()})] = True
        self._reference = _reference(tokenizer, allow_special, surround)
        self._fast: Backend | None = None
        self.name = "tokenizers" if getattr(tokenizer, "backend_tokenizer", None) is not None else "transformers"
        self.reason = "asked for"
        self._draw = random.Random(0)
        self._make_fast = partial(_gigatoken, tokenizer)
        self._around = _surroundings(tokenizer) if fast and surround else ([], [])
        self._seen = 0
        if fast:
            self._adopt_fast(sample)

    def __call__(self, texts: list[str]) -> Tokens:
        """The ids of every text. One text of every call is encoded by both backends.

        Raises:
            BackendMismatchError: the two differ.
        """
        if self._fast is None or not texts:
            return self._reference(texts)
        self._seen += sum(map(len, texts))
        if self._seen > RENEW_CHARACTERS:
            self._fast, self._seen = self._make_fast(), 0
        try:
            bare = self._fast(texts)
        except Exception as error:  # whatever gigatoken raises, the reference can encode the texts
            raise BackendMismatchError(f"gigatoken failed on this corpus: {first_line(error)}") from error
        spelled, tokens = self._spelled(bare), put_around(bare, *self._around)
        probe = min((self._draw.randrange(len(texts)) for _ in range(4)), key=lambda index: len(texts[index]))
        if probe not in spelled and not np.array_equal(tokens.document(probe), self._reference([texts[probe]]).ids):
            raise BackendMismatchError(f"gigatoken gives other ids than the tokenizer on {texts[probe][:60]!r}")
        return self._respelled(texts, tokens, spelled) if len(spelled) else tokens

    def _spelled(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """The documents in which gigatoken made a control token, because their text spells that token."""
        places = np.flatnonzero(self._control[tokens.ids])
        return np.unique(np.searchsorted(np.cumsum(tokens.lengths), places, side="right"))

    def _respelled(self, texts: list[str], tokens: Tokens, spelled: npt.NDArray[np.int64]) -> Tokens:
        """The tokens with these documents encoded by the reference, which can leave such text plain text."""
        parts = tokens.documents()
        again = self._reference([texts[index] for index in spelled]).documents()
        for index, ids in zip(spelled, again, strict=True):
            parts[index] = ids
        return Tokens.concatenate(parts)

    def _adopt_fast(self, sample: Sequence[str]) -> None:
        """Uses gigatoken if it gives the reference's ids on the sample."""
        proof = _head(sample)
        try:
            fast = self._make_fast()
            bare = fast(proof)
        except Exception as error:  # gigatoken refuses tokenizers in many ways
            self.reason = f"gigatoken does not take this tokenizer: {first_line(error)}"
            return
        wanted = self._reference(proof)
        got, spelled = put_around(bare, *self._around), set(self._spelled(bare).tolist())
        if 2 * len(spelled) > len(proof):
            self.reason = "most documents spell special tokens, which gigatoken cannot leave as text"
            return
        for index, (ours, theirs) in enumerate(zip(got.documents(), wanted.documents(), strict=True)):
            if index not in spelled and not np.array_equal(ours, theirs):
                self.reason = f"gigatoken gives other ids on this corpus, first on {proof[index][:60]!r}"
                return
        self._fast, self.name = fast, "gigatoken"
        self.reason = f"it gave the reference's ids on {len(proof) - len(spelled):,} documents of this corpus"


def _head(texts: Sequence[str]) -> list[str]:
    """The first texts, up to PROOF_CHARACTERS; at least one."""
    chosen: list[str] = []
    size = 0
    for text in texts:
        if size + len(text) > PROOF_CHARACTERS and chosen:
            break
        chosen.append(text)
        size += len(text)
    return chosen


def _reference(tokenizer: Any, allow_special: bool, surround: bool) -> Backend:
    """The tokenizer itself, without truncation and padding."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:  # a tokenizer written in Python
        switches = {"split_special_tokens": not allow_special, "add_special_tokens": surround}
        return lambda texts: Tokens.join(tokenizer(texts, **switches)["input_ids"])
    # A copy: every call of the tokenizer resets the switches of its own backend.
    serialized = tokenizer.backend_tokenizer.to_str()
    backend = Tokenizer.from_str(serialized if allow_special else _without_special_pieces(serialized))
    backend.encode_special_tokens = not allow_special
    backend.no_truncation()
    backend.no_padding()
    encode = backend.encode_batch_fast
    return lambda texts: Tokens.join([encoding.ids for encoding in encode(texts, add_special_tokens=surround)])


def _without_special_pieces(serialized: str) -> str:
    """The same tokenizer; a Unigram model loses its special tokens as pieces, which it would find in text.

    The pieces keep their ids and get a space in front, which no text has by then: "▁" stands for spaces.
    """
    parts = json.loads(serialized)
    if parts["model"].get("type") != "Unigram":
        return serialized
    special = {token["content"] for token in parts["added_tokens"] if token["special"]}
    parts["added_tokens"] = [token for token in parts["added_tokens"] if not token["special"]]
    vocab = parts["model"]["vocab"]
    parts["model"]["vocab"] = [[f" {piece}" if piece in special else piece, score] for piece, score in vocab]
    return json.dumps(parts)


def _surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text, such as a begin-of-text token."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    first = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:first], whole[first + len(bare) :]


def _gigatoken(tokenizer: Any) -> Backend:
    """gigatoken for this tokenizer: the texts' own ids, without surroundings."""
    import awkward  # noqa: F401, gigatoken imports it at its first result, where a signal would be swallowed
    import gigatoken

    encoder = gigatoken.Tokenizer(tokenizer)

    def encode(texts: list[str]) -> Tokens:
        rows = encoder.encode_batch(texts)
        content = rows.layout.content.data
        offsets = np.asarray(rows.layout.offsets.data, dtype=np.int64)
        flat = np.asarray(content[offsets[0] : offsets[-1]], dtype=np.uint32)
        return Tokens(flat, np.diff(offsets))

    return encode
