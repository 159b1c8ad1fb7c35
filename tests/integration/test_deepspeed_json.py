"""DeepSpeed JSON files in the manner of other projects, given as they are: each that is not refused trains."""

import json

import pytest
from conftest import ROOT, Pretrain

FILES = ROOT / "tests" / "data" / "deepspeed"

GOOD = (
    "llamafactory_z2", "llamafactory_z3", "axolotl_zero1", "axolotl_zero2", "axolotl_zero3_bf16", "swift_zero2",
    "handbook_zero3_expanded", "examples_chat",
)  # fmt: skip
"""Those of tests/unit/config/test_deepspeed_rules.py that need no GPU."""


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_a_file_of_another_project_trains(pretrain: Pretrain, name: str) -> None:
    file = FILES / f"{name}.json"
    bf16 = json.loads(file.read_text()).get("bf16", {}).get("enabled") is True
    done = pretrain(name, f"deepspeed.config={file}", f"trainer.bf16={str(bf16).lower()}", "trainer.max_steps=4")
    assert done.code == 0, done.stdout + done.stderr
    assert done.status["step"] == 4 and done.series("eval_loss")[-1] < done.series("eval_loss")[0]
