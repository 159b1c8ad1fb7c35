"""Micro batches of samples, and documents of one sequence that do not see each other."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trainyard.data.batches.collator import IGNORE, Collator, Sample


def sample(*segments: list[int]) -> Sample:
    ids = np.array([token for segment in segments for token in segment], dtype=np.int64)
    lengths = np.array([len(segment) for segment in segments], dtype=np.int64)
    return Sample(input_ids=ids, segments=lengths, loss_mask=np.ones(len(ids), dtype=bool))


def test_a_short_sequence_is_filled_up_and_not_learned() -> None:
    batch = Collator(4)([sample([7, 8])])
    assert batch["input_ids"].tolist() == [[7, 8, 0, 0]]
    assert batch["labels"].tolist() == [[7, 8, IGNORE, IGNORE]]
    assert list(batch) == ["input_ids", "labels"]
    assert Collator(4)([])["input_ids"].shape == (0, 4)


def test_isolated_documents_start_from_position_zero_and_are_not_predicted_from_outside() -> None:
    batch = Collator(6, isolate=True)([sample([7, 8, 9], [5, 6]), sample([1, 2, 3, 4, 5, 6])])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]
    assert batch["labels"].tolist() == [[IGNORE, 8, 9, IGNORE, 6, IGNORE], [IGNORE, 2, 3, 4, 5, 6]]


def test_a_flat_batch_has_no_filling_and_cumulative_lengths() -> None:
    batch = Collator(6, isolate=True, flatten=True)([sample([7, 8, 9], [5, 6]), sample([1, 2])])
    assert batch["input_ids"].tolist() == [[7, 8, 9, 5, 6, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORE, 8, 9, IGNORE, 6, IGNORE, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 3, 5, 7]
    assert batch["cu_seq_lens_q"].dtype == torch.int32
    assert batch["max_length_q"] == batch["max_length_k"] == 3
    assert Collator(6, isolate=True, flatten=True)([])["input_ids"].shape == (1, 0)


DOCUMENTS = [list(range(3, 20)), list(range(40, 49)), [5, 60, 7], list(range(20, 50))]


@pytest.fixture(params=["eager", "sdpa", "flex_attention", "flash_attention_2"])
def attention(request: pytest.FixtureRequest) -> str:
    if request.param == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="FlashAttention is not on this machine")
    return str(request.param)


def tiny_model(attention: str, model_type: str = "llama") -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type, vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, head_dim=16,
    )  # fmt: skip
    device = "cuda" if attention == "flash_attention_2" else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(device, dtype).eval()


@torch.no_grad()
def test_packed_documents_give_the_logits_that_they_give_alone(attention: str) -> None:
    model = tiny_model(attention)
    flat = attention.startswith("flash")
    # Two rows, so that nothing rests on a batch of one; the second row ends with filling.
    packed = [sample(*DOCUMENTS[:2]), sample(*DOCUMENTS[2:3], *DOCUMENTS[:1])]
    batch = Collator(32, isolate=True, flatten=flat)(packed)
    batch = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    del batch["labels"]
    logits = model(**batch, use_cache=False).logits
    rows = logits.reshape(1, -1, 64)[0] if flat else torch.cat([logits[0, :26], logits[1, :20]])
    alone = [
        model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
        for ids in (DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[2], DOCUMENTS[0])
    ]
    wanted = torch.cat(alone)
    assert rows.shape == wanted.shape == (17 + 9 + 3 + 17, 64)
    torch.testing.assert_close(rows, wanted, atol=2e-2 if flat else 2e-5, rtol=2e-2 if flat else 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("attention_here", ["eager", "sdpa"])
def test_without_isolation_they_do_see_each_other(attention_here: str) -> None:
    model = tiny_model(attention_here)
    batch = Collator(32)([sample(*DOCUMENTS[:2])])
    second = model(input_ids=batch["input_ids"], use_cache=False).logits[0, 17:26]
    alone = model(input_ids=torch.tensor([DOCUMENTS[1]]), use_cache=False).logits[0]
    assert (second - alone).abs().max() > 1e-2


@torch.no_grad()
def test_the_loss_of_a_packed_sequence_is_that_of_its_documents() -> None:
    model = tiny_model("sdpa")
    batch = Collator(64, isolate=True)([sample(*DOCUMENTS)])
    packed = model(**batch, use_cache=False).loss
    losses = [(model(**Collator(len(ids))([sample(ids)]), use_cache=False).loss, len(ids) - 1) for ids in DOCUMENTS]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    torch.testing.assert_close(packed, mean, atol=1e-5, rtol=1e-5)
