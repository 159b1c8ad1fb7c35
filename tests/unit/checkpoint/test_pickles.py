"""What a pickle would call, told without loading it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.checkpoint.pickles import foreign


def test_a_name_that_is_computed_is_no_way_in(tmp_path: Path) -> None:
    """STACK_GLOBAL with a module's name that the memo brings: what it stands for is known, or the file is refused."""
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x04\x8c\x02os\x94\x8c\x05mkdir\x94h\x00h\x01\x93\x8c\x01x\x85R.")
    assert foreign(file) == "os.mkdir"
    file.write_bytes(b"not a pickle")
    with pytest.raises(ValueError, match="cannot be read"):
        foreign(file)


def test_what_pytorch_and_numpy_save_is_no_code(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    random = {"numpy": np.random.get_state(), "cpu": torch.random.get_rng_state(), "python": (3, (1, 2), None)}
    for number, state in enumerate([optimizer.state_dict(), random, {"parameter": parameter, "size": torch.Size([3])}]):
        torch.save(state, tmp_path / f"{number}.pt")
        assert foreign(tmp_path / f"{number}.pt") is None
