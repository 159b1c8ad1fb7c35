"""The templates that come with trainyard."""

import pytest

from trainyard.data.conversations.shipped import shipped
from unit.template_cases import CASES, chat_template, learned


@pytest.mark.parametrize(("name", "answers"), [
    ("chatml", ["Hello.<|im_end|>", "See you.<|im_end|>"]),
    ("plain", ["Hello.</s>", "See you.</s>"]),
])  # fmt: skip
def test_every_template_is_one_to_train_with(name: str, answers: list[str]) -> None:
    assert set(shipped()) == {"chatml", "plain"}
    assert learned(chat_template(shipped()[name]), CASES["multi"]) == answers
