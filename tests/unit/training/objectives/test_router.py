"""The auxiliary loss of routers is the same however a global batch is divided."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trainyard.training.objectives.causal import CausalLoss
from trainyard.training.objectives.router import _network, router_loss

SIZE = {
    "hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 12, "num_hidden_layers": 2, "vocab_size": 40,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts_per_tok": 2, "output_router_logits": True,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "mixtral": "num_local_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
    "olmoe": "num_experts",
}
ROWS, WIDTH, IGNORED = 8, 12, -100
DIVISIONS = [(1, 8, 1), (1, 2, 4), (1, 1, 8), (2, 4, 1), (2, 1, 4), (4, 2, 1), (8, 1, 1)]
"""Ranks, micro batch and accumulation of one global batch of eight sequences."""


def make(kind: str, coefficient: float = 0.5) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZE, **{EXPERTS[kind]: 4}, router_aux_loss_coef=coefficient)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()


def rows() -> dict[str, torch.Tensor]:
    """Eight sequences with one to ten learned tokens."""
    torch.manual_seed(1)
    ids = torch.randint(3, 40, (ROWS, WIDTH))
    labels = ids.clone()
    for row in range(ROWS):
        labels[row, : 1 + row] = IGNORED
    return {"input_ids": ids, "labels": labels}


def step(model: Any, micro: int, smoothing: float = 0.0) -> tuple[float, float, float]:
    """Loss, router loss and gradient norm of a step: sums over all micro batches of all ranks."""
    objective, batch = CausalLoss(smoothing), rows()
    count = objective.items(batch).float()
    loss = balance = 0.0
    model.zero_grad()
    for first in range(0, ROWS, micro):
        part = {name: tensor[first : first + micro] for name, tensor in batch.items()}
        value, metrics = objective(model, {**part, "num_items_in_batch": count})
        value.backward()
        loss, balance = loss + float(value), balance + float(metrics["router_loss"])
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return loss, balance, float(norm)


@pytest.mark.parametrize("kind", EXPERTS)
def test_loss_and_gradient_do_not_depend_on_micro_batch_accumulation_and_ranks(kind: str) -> None:
    model = make(kind)
    found = {micro: step(model, micro) for _, micro, _ in DIVISIONS}
    assert len(found) == 4
    for figures in found.values():
        assert figures == pytest.approx(found[8], rel=1e-5)
    assert step(make(kind, 0.0), 8)[0] < found[8][0]  # it counts
    assert step(model, 4, 0.1) == pytest.approx(step(model, 1, 0.1), rel=1e-5)


@pytest.mark.parametrize("kind", EXPERTS)
def test_a_sequence_has_the_loss_that_the_library_gives_it(kind: str) -> None:
    model, batch = make(kind), rows()
    one = {name: tensor[:1] for name, tensor in batch.items()}
    outputs = model(**one)
    found = router_loss(model, outputs, one, one["labels"])
    assert found is not None and found.coefficient == 0.5
    torch.testing.assert_close(found.shared.double(), outputs.aux_loss.double())
    loss, _ = CausalLoss()(model, one)
    torch.testing.assert_close(loss, outputs.loss, check_dtype=False)


def test_an_evaluation_leaves_it_out_of_loss_and_perplexity() -> None:
    model, batch = make("mixtral").eval(), rows()
    loss, metrics = CausalLoss()(model, batch)
    plain = make("mixtral", 0.0).eval()(**batch).loss
    torch.testing.assert_close(loss, plain, check_dtype=False)
    assert float(metrics["router_loss"]) > 0.5


def test_documents_of_one_flat_row_are_sequences_of_their_own() -> None:
    model, batch = make("mixtral"), rows()
    flat = {name: tensor.reshape(1, -1) for name, tensor in batch.items()}
    bounds = torch.arange(0, ROWS * WIDTH + 1, WIDTH, dtype=torch.int32)
    apart = [{name: tensor[row : row + 1] for name, tensor in batch.items()} for row in range(ROWS)]
    outputs = [model(**row) for row in apart]
    joined = [torch.cat([output.router_logits[layer] for output in outputs]) for layer in range(2)]
    whole: Any = type("Outputs", (), {"aux_loss": outputs[0].aux_loss, "router_logits": joined})
    found = router_loss(model, whole, {**flat, "cu_seq_lens_q": bounds}, flat["labels"])
    wanted = [
        float(output.aux_loss) * int(row["labels"][:, 1:].ne(IGNORED).sum())
        for output, row in zip(outputs, apart, strict=True)
    ]
    items = int(batch["labels"][:, 1:].ne(IGNORED).sum())
    assert found is not None and float(found.shared) == pytest.approx(sum(wanted) / items, rel=1e-5)


def test_models_without_routers_and_inside_wrappers() -> None:
    model = make("mixtral")
    silent: Any = type("Outputs", (), {"aux_loss": None})
    assert router_loss(model, silent, {}, torch.zeros(1, 1)) is None
    wrapped: Any = type("Wrapper", (), {"module": type("Peft", (), {"get_base_model": lambda: model})})
    assert _network(wrapped) is model


def test_a_loss_of_another_form_is_an_error() -> None:
    outputs: Any = type("Outputs", (), {"aux_loss": torch.ones(()), "router_logits": ()})
    with pytest.raises(ValueError, match="cannot be divided among micro batches; set model"):
        router_loss(make("mixtral"), outputs, {}, torch.zeros(1, 2))
