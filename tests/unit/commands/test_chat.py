"""python -m trainyard chat, with a tiny model that has learned two answers by heart."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, clean_env
from transformers import AutoModelForCausalLM

from trainyard.commands import chat
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.inference import generate as inference
from trainyard.inference import load
from unit.learned import ANSWERS, Verb


def test_a_conversation_through_a_pipe(learned_run: Path) -> None:
    first, second = ANSWERS
    said = f"{first}\n\n/reset\n{second}\n{'x' * 500}\n/exit\n{first}\n".encode()
    done = subprocess.run(
        [sys.executable, "-m", "trainyard", "chat", str(learned_run)],
        input=said,
        capture_output=True,
        cwd=ROOT,
        env=clean_env(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{ANSWERS[first]}\n{ANSWERS[second]}\n"
    assert "a new conversation" in done.stderr.decode()
    assert "the model's context is 128; shorten it; /reset begins anew" in done.stderr.decode()


def test_turns_follow_one_another_and_ctrl_c_ends_an_answer(
    learned_run: Path, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["one", "two", KeyboardInterrupt, "three", "/reset", "four"])
    asked: list[list[dict[str, Any]]] = []

    def typed(_: str) -> str:
        line = next(lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    def generate(model: Any, tokenizer: Any, prompts: Any, *_: Any, streamer: Any) -> list[inference.Answer]:
        streamer.put(torch.tensor(prompts))
        for token in tokenizer("so 🚂")["input_ids"]:
            streamer.put(torch.tensor([token]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        streamer.end()
        return [inference.Answer("so 🚂", len(asked) != 3)]

    def encode(tokenizer: Any, messages: Any, **_: Any) -> list[int]:
        asked.append([message["content"] for message in messages])
        return [1]

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(inference, "generate", generate)
    monkeypatch.setattr(inference, "encode", encode)
    assert verb("chat", learned_run, "--system", "be brief") == 0
    assert asked == [
        ["be brief", "one"],
        ["be brief", "one", "so 🚂", "two"],
        ["be brief", "one", "so 🚂", "two", "so 🚂", "three"],
        ["be brief", "four"],
    ]
    out, err = capsys.readouterr()
    assert out == "so 🚂\n" * 4
    assert err.count("ended by Ctrl-C") == err.count("cut at 512 tokens") == 1


def test_characters_are_shown_whole_and_the_end_is_not(learned: load.Loaded) -> None:
    shown: list[str] = []
    ends = inference.end_ids(learned.tokenizer)
    printer = chat.Printer(learned.tokenizer, ends, shown.append)
    ids = learned.tokenizer("ab é🤖")["input_ids"]
    printer.put(torch.tensor([[1, 2, 3]]))
    for token in [*ids, ends[-1]]:
        printer.put(torch.tensor([token]))
    printer.end()
    assert len(ids) > 5
    assert "".join(shown) == printer.text == "ab é🤖"
    assert "\ufffd" not in "".join(shown)


def test_a_model_without_turns_cannot_chat(learned_run: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    bare = tmp_path / "bare"
    AutoModelForCausalLM.from_pretrained(learned_run / "model").save_pretrained(bare)
    tokenizers.load(str(learned_run / "tokenizer")).save_pretrained(bare)
    assert verb("chat", bare) == 2
    assert "has no chat template, so it knows no turns; `python -m trainyard generate" in capsys.readouterr().err
    assert verb("generate", bare, "the yard", "--max-new-tokens", 4) == 0
