"""Text to token ids for pretraining: what the tokenizer gives, then end-of-text."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def make_encoder(tokenizer: Any) -> Callable[[list[str]], list[npt.NDArray[Any]]]:
    """A function from texts to their ids, one uint32 array per text, each closed by one end-of-text token.

    Text that spells a special token, as "<|endoftext|>", is encoded as the plain characters that it is.
    """
    end = tokenizer.eos_token_id

    def close(ids: list[int]) -> npt.NDArray[np.uint32]:
        return np.array(ids if ids and ids[-1] == end else [*ids, end], dtype=np.uint32)

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python
        return lambda texts: [close(ids) for ids in tokenizer(texts, split_special_tokens=True)["input_ids"]]
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return lambda texts: [close(encoding.ids) for encoding in backend.encode_batch_fast(texts)]
