"""Conversions of small checkpoints; those of whole runs, under every stage, are in tests/faults/test_world_size.py."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainyard.checkpoint import convert as conversion
from trainyard.checkpoint.convert import LATEST, MOMENTS, WEIGHTS, convert
from trainyard.checkpoint.layout import PARAMETERS
from trainyard.checkpoint.restore import is_universal, load_states, set_step_counters


class Network(torch.nn.Module):
    """Two weights of a layer that is used, and one that never has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2, bias=False)


def trained(kind: Any = torch.optim.AdamW, steps: int = 3) -> tuple[Network, Any]:
    torch.manual_seed(0)
    network = Network()
    optimizer = kind(network.parameters(), lr=0.25)
    for _ in range(steps):
        optimizer.zero_grad()
        network.used(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
    return network, optimizer


def checkpoint_of(folder: Path, network: Network, optimizer: Any) -> Path:
    """A checkpoint of DDP at step 3."""
    place = folder / "checkpoint-3"
    place.mkdir()
    save_file(network.state_dict(), place / "model.safetensors")
    torch.save(optimizer.state_dict(), place / "optimizer.pt")
    torch.save({"last_epoch": 3, "lr_lambdas": [None]}, place / "scheduler.pt")
    names = [name for name, _ in network.named_parameters()]
    (place / PARAMETERS).write_text(json.dumps({"names": names}))
    (place / "manifest.json").write_text("{}")
    return place


def test_a_converted_checkpoint_holds_the_same_states(tmp_path: Path) -> None:
    network, optimizer = trained()
    source, target = checkpoint_of(tmp_path, network, optimizer), tmp_path / "converted" / "checkpoint-3"
    target.parent.mkdir()
    convert(source, target, fp16=False)
    assert is_universal(target) and not is_universal(source)
    assert (target / LATEST).read_text() == "global_step3"
    assert (target / "manifest.json").resolve() == source / "manifest.json"
    assert not (target / "optimizer.pt").exists()
    assert torch.load(target / "scheduler.pt") == {"last_epoch": 3, "lr_lambdas": []}
    fresh, other = trained(steps=0)
    load_states(target, fresh, other)
    set_step_counters(other)
    compared = 0
    for new, old in zip(fresh.parameters(), network.parameters(), strict=True):
        assert new.equal(old)
        states = optimizer.state.get(old) or dict.fromkeys(MOMENTS, torch.zeros_like(old))
        assert all(other.state[new][key].equal(states[key]) for key in MOMENTS)
        assert other.state[new]["step"] == 3
        compared += 1
    assert compared == 3 and other.param_groups[0]["lr"] == 0.25
    assert list(target.parent.iterdir()) == [target], "a staging directory is left"


def test_what_cannot_be_converted_has_a_reason(tmp_path: Path) -> None:
    source = checkpoint_of(tmp_path, *trained(torch.optim.Adagrad))
    with pytest.raises(ValueError, match="no exp_avg: only the states of Adam"):
        convert(source, tmp_path / "a", fp16=False)
    (source / PARAMETERS).unlink()
    with pytest.raises(ValueError, match=r"has no parameters\.json"):
        convert(source, tmp_path / "b", fp16=False)
    assert list(tmp_path.glob(".*")) == []
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


SHAPES = [{"a": torch.Size([3]), "b": torch.Size([2, 2])}]


def joined(parameters: Any) -> dict[str, list[float]]:
    """The whole weights of each parameter, of which the moments must be the tenfold and the hundredfold."""
    result = {}
    for parameter in parameters:
        whole = {state: torch.cat(parts).tolist() for state, parts in parameter.parts.items()}
        assert whole[MOMENTS[0]] == [10 * value for value in whole[WEIGHTS]]
        assert whole[MOMENTS[1]] == [100 * value for value in whole[WEIGHTS]]
        assert parameter.shape == SHAPES[0][parameter.name]
        result[parameter.name] = whole[WEIGHTS]
    return result


def moments_of(vector: torch.Tensor) -> dict[int, dict[str, torch.Tensor]]:
    return {0: {MOMENTS[0]: 10 * vector, MOMENTS[1]: 100 * vector}}


def test_the_pieces_of_zero_3_are_joined_without_their_padding() -> None:
    """a, of 3 values, is cut into 2 and 1 and one of padding; b, of 4, into 2 and 2."""
    vectors = [torch.tensor([1.0, 2.0, 4.0, 5.0]), torch.tensor([3.0, -1.0, 6.0, 7.0])]
    ranks = [{"fp32_flat_groups": [v], "optimizer_state_dict": {"state": moments_of(v)}} for v in vectors]
    assert joined(conversion._of_zero_3(ranks, SHAPES)) == {"a": [1, 2, 3], "b": [4, 5, 6, 7]}


def test_the_pieces_of_zero_1_and_2_are_found_by_their_mapping() -> None:
    """One vector of 7 values for 2 ranks: 4 values, of which the last belongs to b, then 3 and one of padding."""

    def place(start: int, numel: int) -> Any:
        return SimpleNamespace(start=start, numel=numel)

    vectors = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0, 7.0, -1.0])]
    mappings = [{"a": place(0, 3), "b": place(3, 1)}, {"b": place(0, 3)}]
    ranks = [
        {
            "param_slice_mappings": [mapping],
            "single_partition_of_fp32_groups": [vector],
            "base_optimizer_state": {"state": moments_of(vector)},
        }
        for mapping, vector in zip(mappings, vectors, strict=True)
    ]
    assert joined(conversion._of_zero_1_and_2(ranks, SHAPES)) == {"a": [1, 2, 3], "b": [4, 5, 6, 7]}
