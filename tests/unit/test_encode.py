from pathlib import Path

import pytest
from conftest import make_documents

from pretrain.encode import make_encoder
from trainyard.data import tokenizer as tokenizers

TEXTS = ["plain ASCII", "中文 文本", "emoji 🚂🚃", "control \x00\x07\t\r\n", "", "x" * 20_000, *make_documents(5)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizers.train(iter(make_documents()), 400, path)
    return tokenizers.load(str(path))


def test_ids_are_the_tokenizers_own_and_one_end_of_text(tokenizer) -> None:  # type: ignore[no-untyped-def]
    end = tokenizer.eos_token_id
    wanted = [[*tokenizer(text)["input_ids"], end] for text in TEXTS]
    assert [ids.tolist() for ids in make_encoder(tokenizer)(TEXTS)] == wanted


def test_every_text_comes_back(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoded = make_encoder(tokenizer)(TEXTS)
    assert [tokenizer.decode(ids[:-1].tolist()) for ids in encoded] == TEXTS


def test_text_that_spells_a_special_token_stays_text(tokenizer) -> None:  # type: ignore[no-untyped-def]
    (ids,) = make_encoder(tokenizer)(["a<|endoftext|>b<|im_end|>"])
    assert ids.tolist().count(tokenizer.eos_token_id) == 1
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids.tolist()


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path, tokenizer) -> None:  # type: ignore[no-untyped-def]
    tokenizer.save_pretrained(tmp_path)
    config = (tmp_path / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(config.replace('"eos_token"', '"other"'))
    with pytest.raises(tokenizers.DataError, match="no end-of-text token"):
        tokenizers.load(str(tmp_path))
