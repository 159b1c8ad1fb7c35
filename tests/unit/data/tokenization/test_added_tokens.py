"""Tokens added to a tokenizer, and the rows that they get."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_documents

from trainyard.config.schema import DataConfig, ModelConfig, PeftConfig, SourceConfig
from trainyard.data.preparation.prepare import find, prepare
from trainyard.data.preparation.request import DataRequest
from trainyard.data.tokenization import added_tokens
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.model import adapters, build


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("tokenizer") / "base"
    tokenizers.train(iter(make_documents()), 400, directory)
    return str(directory)


def llama(vocab_size: int, *, tied: bool) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("entries", [[""], [3], [{"special": True}], ["<a>", "<a>"], [{"content": "<a>", "strip": 1}]])
def test_what_is_no_token_is_named(entries: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"no token; give them as|stands there twice"):
        added_tokens.parse(entries)


def test_a_token_is_special_unless_it_says_otherwise(base: str, tmp_path: Path) -> None:
    entries = ["<|q|>", {"content": "<word>", "special": False}]
    made = added_tokens.extend(base, entries, tmp_path, trust_remote_code=False)
    assert made == added_tokens.directory_of(tmp_path, base, entries)
    tokenizer, before = tokenizers.load(str(made)), tokenizers.load(base)
    ids = added_tokens.ids(tokenizer, entries)
    assert ids == [len(before), len(before) + 1]
    assert [tokenizer.added_tokens_decoder[number].special for number in ids] == [True, False]
    text = tokenizer("a <|q|> <word>", split_special_tokens=True)["input_ids"]
    assert ids[0] not in text and ids[1] in text
    assert tokenizer("the yard")["input_ids"] == before("the yard")["input_ids"]


def test_a_token_that_is_there_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has them already"):
        added_tokens.extend(base, [tokenizers.END_OF_TEXT], tmp_path, trust_remote_code=False)
    assert not list(tmp_path.iterdir())


def test_the_store_is_made_with_the_longer_tokenizer_and_found_again(base: str, tmp_path: Path) -> None:
    from pretrain.encode import Encoder

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a <word> b\n" * 40)
    data = DataConfig(sources=[SourceConfig(path=str(corpus), format="text")], block_size=8, eval_fraction=0)
    entries = ({"content": "<word>", "special": False},)
    requests = [DataRequest(tmp_path, "pretrain", data, base, 400, 0, add_tokens=added) for added in ((), entries)]
    assert find(requests[1]) is None
    plain, longer = (prepare(request, Encoder, lambda done, total: None) for request in requests)
    assert plain and longer and plain.store != longer.store
    assert plain.tokenizer == base and find(requests[1]) == longer
    assert "<word>" in tokenizers.load(longer.tokenizer).get_vocab()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [20, 24])
def test_new_rows_are_the_mean_of_the_known_ones(rows: int, tied: bool) -> None:
    """Two tokens after 20: in new rows, or in the first of those that the weights hold in reserve."""
    network = llama(rows, tied=tied)
    before = [layer.weight.detach().clone() for layer in (network.get_input_embeddings(), network.lm_head)]
    build.add_rows(network, 22, [20, 21])
    assert network.config.vocab_size == max(rows, 22)
    for old, layer in zip(before, (network.get_input_embeddings(), network.lm_head), strict=True):
        assert len(layer.weight) == max(rows, 22)
        assert layer.weight[:20].equal(old[:20])
        for new in (20, 21):
            torch.testing.assert_close(layer.weight[new], old[:20].mean(0))
        assert layer.weight[22:].equal(old[22:])
    assert (network.lm_head.weight is network.get_input_embeddings().weight) == tied


def test_ids_beyond_the_weights_are_refused_unless_they_were_added(tmp_path: Path) -> None:
    llama(20, tied=True).save_pretrained(tmp_path)
    settings = ModelConfig(path=str(tmp_path), init="pretrained")
    made = build.build(settings, 21, {}, seed=0, own_vocab=False, added=[20])
    assert len(made.get_input_embeddings().weight) == 21
    with pytest.raises(ValueError, match="the tokenizer has 22 ids"):
        build.build(settings, 22, {}, seed=0, own_vocab=False, added=[21])


@pytest.mark.parametrize("tied", [True, False])
def test_under_lora_the_new_rows_alone_are_trained_and_saved(tied: bool, tmp_path: Path) -> None:
    from peft import PeftModel

    network = llama(20, tied=tied)
    build.add_rows(network, 22, [20, 21])
    base = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    adapted = adapters.adapt(network, PeftConfig(method="lora"), seed=0, added=[20, 21])
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=10.0)
    ids = torch.tensor([[20, 3, 21, 4, 5]])
    adapted(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    adapted.eval()
    merged_rows = adapted.get_input_embeddings().token_adapter.get_merged_weights(["default"])
    assert merged_rows[:20].equal(base["model.embed_tokens.weight"][:20])
    assert not merged_rows[20].equal(base["model.embed_tokens.weight"][20])
    adapted.save_pretrained(tmp_path)
    fresh = llama(20, tied=tied)
    build.add_rows(fresh, 22, [20, 21])
    again = PeftModel.from_pretrained(fresh, str(tmp_path)).eval()
    torch.testing.assert_close(again(input_ids=ids).logits, adapted(input_ids=ids).logits)
