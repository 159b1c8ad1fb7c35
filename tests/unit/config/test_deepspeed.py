import json
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard.config import deepspeed
from trainyard.config.deepspeed_rules import malformed


def test_ours_are_found_by_name_and_are_well_formed() -> None:
    files = sorted((ROOT / "ds_configs").glob("*.json"))
    assert len(files) == 5
    for file in files:
        assert deepspeed.find(file.stem) == file
        values = deepspeed.read(file.stem)
        assert malformed(values) == []
        assert deepspeed.stage(values) == int(file.stem[4])
        assert deepspeed.offloads(values) == file.stem.endswith("_offload")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "Give the path of a DeepSpeed JSON, or one of zero1, "), ("{", "not valid JSON"), ("[]", "this is a list")],
)
def test_a_missing_file_and_one_without_an_object_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        deepspeed.read(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "a": 1, // why\n "b": 2}', r":2: not valid JSON: a comment; JSON has none, so take it out"),
        ('{"a": 1,\n\n# why\n"b": 2}', r":3: not valid JSON: a comment"),
        ('{"a": 1,\n}', r":\d: not valid JSON: a comma before the closing bracket; take it out"),
        ('{"a": [1,\n2,\n]}', r":\d: not valid JSON: a comma before the closing bracket"),
        ("{'a': 1}", r":1: not valid JSON: a text in single quotes; JSON has double ones"),
        ('{"a": True}', r":1: not valid JSON: True; JSON writes true"),
        ('{"a": None}', r":1: not valid JSON: None; JSON writes null"),
        ('{"a": NaN}', r": not valid JSON: NaN is no number of JSON"),
        ('{"zero": {"stage": 2, "stage": 3}}', r": not valid JSON: stage stands twice in one object; leave one out"),
    ],
)
def test_what_is_no_json_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        deepspeed.read(str(path))


def test_a_mark_before_the_text_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert deepspeed.read(str(path)) == {"a": 1}
    path.write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"mine.json: not UTF-8 text; save it as UTF-8"):
        deepspeed.read(str(path))


def test_completion_fills_in_what_is_missing_and_leaves_the_rest() -> None:
    given = {"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW"}, "train_batch_size": 4}
    before = json.dumps(given)
    assert deepspeed.complete(given, on_gpu=False) == {
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
        "train_batch_size": 4, "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }  # fmt: skip
    assert "params" not in deepspeed.complete(given, on_gpu=True)["optimizer"]
    assert json.dumps(given) == before


def test_adam_of_torch_takes_the_place_of_one_that_would_be_compiled() -> None:
    for name in ("Muon", "Adam", "AdamW", "SGD"):
        given = {"zero_optimization": {"stage": 2}, "optimizer": {"type": name, "params": {"bias_correction": True}}}
        params = deepspeed.complete(given, on_gpu=False)["optimizer"]["params"]
        assert params == ({"bias_correction": True} if name == "SGD" else {"torch_adam": True})


def test_weights_are_gathered_unless_the_json_forbids_it() -> None:
    for given, wanted in ((None, True), ("auto", True), (True, True), (False, False)):
        zero = {"stage": 3} | ({} if given is None else {"stage3_gather_16bit_weights_on_model_save": given})
        completed = deepspeed.complete({"zero_optimization": zero}, on_gpu=True)["zero_optimization"]
        assert completed["stage3_gather_16bit_weights_on_model_save"] is wanted
