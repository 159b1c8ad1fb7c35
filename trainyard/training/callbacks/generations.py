"""Answers of the model to the same held-out prompts, before the first step and after the last."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainyard.data.batches.dataset import TokenDataset
from trainyard.files import json_lines, write_text
from trainyard.inference.generate import Sampling, generate
from trainyard.rundir.metrics import read_metrics

PROMPT_TOKENS = 32
"""The model continues a document without a loss mask from this many tokens."""

Rows = list[dict[str, Any]]


class Question(NamedTuple):
    """The beginning of a held-out document, and its continuation, both as token ids."""

    prompt: list[int]
    reference: list[int]


def questions(held_out: TokenDataset) -> Iterator[Question]:
    """A question of each held-out document: the prompt ends before the first learned token, the reference with the
    answer that begins there. Documents without a prompt are passed over.
    """
    for number in range(len(held_out)):
        sample = held_out[number]
        ends = np.cumsum(sample["segments"])
        for start, end in zip(ends - sample["segments"], ends, strict=True):
            ids = sample["input_ids"][start:end]
            if sample["loss_mask"] is None:
                begin, stop = PROMPT_TOKENS, len(ids)
            else:
                loss_mask = sample["loss_mask"][start:end]
                begin = int(loss_mask.argmax())
                stop = begin + int(np.append(~loss_mask[begin:], True).argmax())
            if 0 < begin < stop:
                yield Question(ids[:begin].tolist(), ids[begin:stop].tolist())


class GenerationsCallback(TrainerCallback):
    """Appends to samples.jsonl. All ranks generate the same answers, since under ZeRO-3 no rank has all weights.

    Attributes:
        kept: the rows of an earlier start, up to the checkpoint.
        show: receives the new rows.
    """

    def __init__(
        self,
        path: Path | None,
        held_out: TokenDataset,
        tokenizer: Any,
        ends: list[int],
        *,
        count: int,
        max_new_tokens: int,
        resume_step: int | None,
    ):
        """
        Args:
            path: samples.jsonl on the first rank, None on the others.
            ends: see trainyard.inference.generate.end_ids.
            resume_step: None when the run begins.
        """
        self.questions = list(islice(questions(held_out), count))
        self.path, self.tokenizer, self.ends = path, tokenizer, ends
        self.sampling = Sampling(max_new_tokens=max_new_tokens)
        self.begins = resume_step is None
        self.show: Callable[[Rows], None] = lambda rows: None
        rows = read_metrics(path) if path else []
        self.kept = [row for row in rows if resume_step is not None and row["step"] <= resume_step]
        if path:
            write_text(path, json_lines(self.kept, ensure_ascii=False))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.begins:
            self.answer(kwargs["model"], state.global_step)

    def answer(self, model: Any, step: int) -> None:
        """Collective. Lets the model answer, always with the likeliest token."""
        if not self.questions:
            return
        was_training = model.training
        model.eval()
        prompts = [question.prompt for question in self.questions]
        given = generate(model, self.tokenizer, prompts, self.ends, self.sampling)
        model.train(was_training)
        rows = [
            {
                "step": step,
                "prompt": self.tokenizer.decode(question.prompt),
                "reference": self.tokenizer.decode(question.reference, skip_special_tokens=True),
                "response": answer.text,
                "finished": answer.finished,
            }
            for question, answer in zip(self.questions, given, strict=True)
        ]
        if self.path:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json_lines(rows, ensure_ascii=False))
            self.show(rows)
