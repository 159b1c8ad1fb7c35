"""Whatever generation config a base brings, the model can be saved, and it is said what was changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

from trainyard.config.schema import ModelConfig
from trainyard.model import generation
from trainyard.model.build import build

SIZE = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
IDS = {"eos_token_id": 0, "pad_token_id": 1}
VICUNA = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "max_length": 2048}


@pytest.mark.parametrize(
    ("values", "changed", "told"),
    [
        (VICUNA, {"do_sample": True}, "do_sample=true set beside temperature=0.6, top_p=0.9, top_k=20 of the base"),
        ({"top_p": 0.9}, {"do_sample": True}, "do_sample=true set beside top_p=0.9"),
        ({"do_sample": True, "temperature": 0.0, "top_p": 0.9}, {"do_sample": False, "temperature": 1.0, "top_p": 1.0},
         "temperature=0.0, top_p=0.9 of the base left out and do_sample=false"),
        ({"temperature": 0}, {"do_sample": False, "temperature": 1.0}, "temperature=0 of the base left out"),
        ({"length_penalty": 2.0, "early_stopping": True}, {"length_penalty": None}, "length_penalty=2.0 of the base"),
        ({"num_return_sequences": 3}, {"num_return_sequences": None}, "num_return_sequences=3 of the base"),
        ({"pad_token_id": -1}, {"pad_token_id": None}, "pad_token_id=-1 of the base left out"),
        ({"max_new_tokens": 0}, {"max_new_tokens": None}, "max_new_tokens=0 of the base is left out"),
        ({"early_stopping": "perhaps"}, {}, "early_stopping=perhaps of the base is left out"),
        ({"cache_implementation": "of a later version"}, {"cache_implementation": None}, "cache_implementation="),
        ({"repetition_penalty": 1.05, "max_length": 99}, {}, ""),
        ({"do_sample": True, "temperature": 0.6}, {}, ""),
    ],
)  # fmt: skip
def test_a_base_with_any_generation_config_is_loaded_and_saved(
    tmp_path: Path, values: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    base, saved = tmp_path / "base", tmp_path / "saved"
    LlamaForCausalLM(LlamaConfig(**SIZE)).save_pretrained(base)
    (base / generation.FILE).write_text(json.dumps(IDS | {"repetition_penalty": 1.05} | values))
    said: list[str] = []
    model = build(ModelConfig(path=str(base), init="pretrained"), 40, {}, seed=1, own_vocab=False, say=said.append)
    model.save_pretrained(saved)
    again = AutoModelForCausalLM.from_pretrained(saved).generation_config
    for name, value in {**IDS, "repetition_penalty": 1.05, **values, **changed}.items():
        if name not in ("early_stopping",):
            assert getattr(again, name) == value, name
    assert (told in " ".join(said)) if told else said == []
    assert all(line.startswith(generation.FILE) for line in said)


def test_a_file_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    (tmp_path / generation.FILE).write_text('{"temperature": ')
    found, notes = generation.load(str(tmp_path))
    assert found is None or (isinstance(found, GenerationConfig) and notes)
    assert generation.load(str(tmp_path / "none")) == (None, [])
