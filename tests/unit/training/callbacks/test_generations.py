"""Sample prompts, taken from held-out documents."""

from typing import Any

import numpy as np

from trainyard.training.callbacks.generations import PROMPT_TOKENS, Question, questions


class HeldOut:
    """Sequences in memory, as TokenDataset gives them."""

    def __init__(self, *samples: dict[str, Any]):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def test_a_question_goes_up_to_the_first_answer_of_each_conversation() -> None:
    """Two conversations packed together; one whose first token is learned has no prompt."""
    packed = {
        "input_ids": np.arange(10, 20),
        "segments": np.array([6, 4]),
        "loss_mask": np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 1], bool),
    }
    all_learned = {"input_ids": np.arange(3), "segments": np.array([3]), "loss_mask": np.ones(3, bool)}
    found = list(questions(HeldOut(packed, all_learned)))  # type: ignore[arg-type]
    assert found == [Question([10, 11], [12, 13]), Question([16], [17, 18, 19])]


def test_text_is_continued_from_its_beginning() -> None:
    long, short = (
        {"input_ids": np.arange(size), "segments": np.array([size]), "loss_mask": None}
        for size in (PROMPT_TOKENS + 2, PROMPT_TOKENS)
    )
    found = list(questions(HeldOut(short, long)))  # type: ignore[arg-type]
    assert found == [Question(list(range(PROMPT_TOKENS)), [PROMPT_TOKENS, PROMPT_TOKENS + 1])]
