"""What a preparation is asked for, from the settings of a run, and shares of its work."""

from pathlib import Path

import pytest

from trainyard.config.schema import Config
from trainyard.data.preparation.request import DataRequest, Share, data_request


def test_the_request_of_a_run() -> None:
    config = Config(stage="sft")
    config.paths.outputs = "/runs"
    config.run.seed = 7
    config.tokenizer.vocab_size = 300
    config.tokenizer.add_tokens = ["<|q|>"]
    config.model.trust_remote_code = True
    assert data_request(config) == DataRequest(
        outputs=Path("/runs"),
        stage="sft",
        data=config.data,
        tokenizer_path=None,
        vocab_size=300,
        seed=7,
        add_tokens=("<|q|>",),
        trust_remote_code=True,
        part_bytes=None,
    )


def test_the_tokenizer_is_the_one_of_the_settings_or_the_models() -> None:
    config = Config(stage="sft")
    config.model.path = "/model"
    assert data_request(config).tokenizer_path == "/model"
    config.tokenizer.path = "/tokenizer"
    assert data_request(config).tokenizer_path == "/tokenizer"


@pytest.mark.parametrize(("indices", "shares"), [
    ((0, 1, 2), [[0, 3, 6], [1, 4], [2, 5]]),
    ((1, 2, 3), [[1, 4], [2, 5], [0, 3, 6]]),
])  # fmt: skip
def test_consecutive_shares_make_the_whole(indices: tuple[int, ...], shares: list[list[int]]) -> None:
    assert [Share(index, 3).of(7) for index in indices] == shares
    assert Share(5, 1).of(2) == [0, 1]
    assert Share(2, 3).of(2) == []
