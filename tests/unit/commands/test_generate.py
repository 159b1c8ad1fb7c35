"""python -m trainyard generate, with a tiny model that has learned two answers by heart."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from trainyard.inference import load
from unit.learned import ANSWER, ANSWERS, QUESTION, Verb, user


def test_a_prompt_is_answered_on_standard_output(learned_run: Path, verb: Verb, capsys: Any) -> None:
    assert verb("generate", learned_run, "--max-new-tokens", "50", QUESTION) == 0
    assert capsys.readouterr() == (f"{ANSWER}\n", "")


def test_json_lines_are_answered_into_a_file(learned_run: Path, tmp_path: Path, verb: Verb) -> None:
    first, second = ANSWERS
    asked = [{"prompt": first, "id": 7}, {"messages": user(second)}, {"prompt": "x"}]
    source, target = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    source.write_text("\n\n".join(json.dumps(row) for row in asked))
    assert verb("generate", learned_run, "--prompts", source, "--output", target, "--batch-size", 2) == 0
    answered = [json.loads(line) for line in target.read_text().splitlines()]
    assert answered[:2] == [
        {**asked[0], "response": ANSWERS[first], "finished": True},
        {**asked[1], "response": ANSWERS[second], "finished": True},
    ]
    assert answered[2].keys() == {"prompt", "response", "finished"}
    before = target.read_bytes()
    assert verb("generate", learned_run, "--prompts", source, "--output", target) == 2
    assert target.read_bytes() == before


def test_lines_of_text_are_answered_on_standard_output(
    learned_run: Path, tmp_path: Path, verb: Verb, capsys: Any
) -> None:
    source = tmp_path / "asked.txt"
    source.write_text("\n".join(ANSWERS))
    assert verb("generate", learned_run, "--prompts", source) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"prompt": key, "response": value, "finished": True} for key, value in ANSWERS.items()]


def test_a_system_message_and_plain_text_are_other_prompts(learned_run: Path, verb: Verb, capsys: Any) -> None:
    seen = []
    for options in ([], ["--system", "be brief"], ["--plain"]):
        assert verb("generate", learned_run, "the yard", "--max-new-tokens", 8, *options) == 0
        seen.append(capsys.readouterr().out)
    assert len(set(seen)) == 3
    assert verb("generate", learned_run, "the yard", "--plain", "--system", "x") == 2
    assert "--system x: --plain goes on from text" in capsys.readouterr().err


def test_bad_lines_are_named_together(learned_run: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    source, target = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    said = [*user("x"), {"role": "assistant", "content": "y"}]
    rows = [
        {"prompt": "fine"},
        {"text": "x"},
        {"prompt": 3},
        {"messages": []},
        {"messages": said},
        {"prompt": "\ud800"},
    ]
    source.write_text("\n".join(map(json.dumps, rows)) + "\n{\n" + json.dumps({"messages": [{"role": "boss"}]}))
    assert verb("generate", learned_run, "--prompts", source, "--output", target) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [re.search(r"jsonl:(\d): ", line)[1] for line in errors] == list("2345678")  # type: ignore[index]
    for line, wanted in zip(
        errors, ("must be", "must be text", "list", "leave it out", "half", "", "boss"), strict=True
    ):
        assert wanted in line
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a prompt or --prompts FILE"),
        (["x", "--prompts", "f"], "give a prompt or --prompts FILE"),
        (["two", "words"], "2 prompts: give one, in quotes"),
        ([""], "the prompt is empty"),
        (["x", "--max-new-tokens", "0"], "--max-new-tokens 0: must be 1 or more"),
        (["x", "--temperature", "-1"], "--temperature -1.0: must be 0"),
        (["x", "--top-p", "0"], "--top-p 0.0: must be above 0"),
        (["x", "--top-p", "0.5"], "of no effect at --temperature 0; set --temperature"),
        (["x", "--seed", "-3"], "--seed -3: must be 0 or more"),
        (["x", "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["x", "--output", "no/where/f.jsonl"], "there is no directory"),
        (["--prompts", "nowhere.txt"], "--prompts nowhere.txt: it cannot be read"),
        (["--prompts", "/dev/null"], "there is no prompt in it"),
        (["x", "--unheard-of"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(
    words: list[str], message: str, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "load", lambda *_, **__: pytest.fail("it was loaded"))
    assert verb("generate", "model", *words) == 2
    out, err = capsys.readouterr()
    assert "error: " in err
    assert message in err
    assert not out
