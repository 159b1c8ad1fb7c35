"""A user's own model and conversations, by the commands of the documentation with step counts alone."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, clean_env
from unit.learned import ANSWERS, overfit

TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>OWN-' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>OWN-assistant\\n' }}{%- endif %}"
)
VICUNA = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 0, "pad_token_id": 1}
"""A generation config that transformers does not save, as old models bring it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a model that knows its answers by heart in a template of its own, and the conversations."""
    place = tmp_path_factory.mktemp("own")
    overfit(place / "base", TEMPLATE)
    (place / "base" / "model" / "generation_config.json").write_text(json.dumps(VICUNA))
    pairs = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ANSWERS.items()]
    lines = [json.dumps({"messages": messages}) + "\n" for messages in pairs]
    (place / "chats.jsonl").write_text("".join(lines) * 40)
    long = [[pairs[0][0], {"role": "assistant", "content": "delta paper " * 100}]]
    (place / "long.jsonl").write_text("".join(lines + [json.dumps({"messages": each}) + "\n" for each in long]) * 20)
    return place


def sft(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "launch" / "sft.sh"), "model.path=base/model", *overrides]
    return subprocess.run(command, cwd=folder, env=clean_env(), capture_output=True, text=True)


def test_the_recipe_trains_and_keeps_the_models_own_template(folder: Path) -> None:
    source = "data.sources=[{path: chats.jsonl, format: messages}]"
    done = sft(folder, source, "trainer.max_steps=2", "launch.num_devices=1", "run.name=own")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "filled in: data.block_size=128 " in done.stdout and "filled in: trainer.learning_rate=2e-05 " in done.stdout
    assert "do_sample=true set beside temperature=0.6, top_p=0.9 of the base" in done.stdout
    assert "lengths    80 conversations, 0 shortened (0.0%), 0 left out (0.0%)" in done.stdout
    run = folder / "outputs" / "sft" / "own"
    assert (run / "example.txt").read_text().count("OWN-assistant") >= 2
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["data"]["chat_template"] is None
    assert (settings["trainer"]["learning_rate"], settings["trainer"]["warmup_steps"]) == (2e-5, 0.03)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert "OWN-" in tokenizer.chat_template
    for question, answer in ANSWERS.items():
        asked = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        said = model.generate(**prompt, do_sample=False, max_new_tokens=40)[0, prompt["input_ids"].shape[1] :]
        assert tokenizer.decode(said, skip_special_tokens=True) == answer


def test_too_many_conversations_that_do_not_fit_are_refused_before_the_launch(folder: Path) -> None:
    done = sft(folder, "data.sources=[{path: long.jsonl, format: messages}]", "run.name=long")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "data.max_dropped=0.05: 20 of 60 conversations (33.3%) are left out" in done.stderr
    assert "the model's context is 128 tokens" in done.stderr
    assert not (folder / "outputs" / "sft" / "long" / "logs" / "launcher.log").exists()
