"""Loading and saving a tokenizer."""

import json
from pathlib import Path

import pytest
from small_tokenizers import small_tokenizer

from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError


def test_a_tokenizer_of_llama_is_saved_as_it_was_loaded(tmp_path: Path) -> None:
    small_tokenizer("llama_legacy").save_pretrained(tmp_path / "first")
    config = json.loads((tmp_path / "first" / "tokenizer_config.json").read_text())
    for legacy, pieces in ((True, ["</s>", "▁yard"]), (False, ["</s>", "y", "ar", "d"])):
        (tmp_path / "first" / "tokenizer_config.json").write_text(json.dumps(config | {"legacy": legacy}))
        tokenizer = tokenizers.load(str(tmp_path / "first"))
        assert tokenizer.tokenize("</s>yard") == pieces
        tokenizer.save_pretrained(tmp_path / "second")
        assert tokenizers.load(str(tmp_path / "second")).tokenize("</s>yard") == pieces


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path, tokenizer_path: str) -> None:
    tokenizers.load(tokenizer_path).save_pretrained(tmp_path)
    config = (tmp_path / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(config.replace('"eos_token"', '"other"'))
    with pytest.raises(DataError, match="no end-of-text token"):
        tokenizers.load(str(tmp_path))
