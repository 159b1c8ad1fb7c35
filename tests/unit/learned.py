"""A tiny model that has learned two answers by heart, and what is asked of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT, make_documents
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.inference import generate as inference
from trainyard.inference import load
from trainyard.inference.generate import Sampling

ANSWERS = {"what is a yard?": "a place for 火车 🚂.", "what trains models, and of which kind are these?": "the yard."}
CHATML = (ROOT / "trainyard" / "data" / "conversations" / "templates" / "chatml.jinja").read_text()
QUESTION, ANSWER = next(iter(ANSWERS.items()))

Verb = Callable[..., int]
"""`python -m trainyard ...` in this process: verb("generate", ...) gives its exit code."""


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def overfit(directory: Path, template: str = CHATML) -> None:
    """Makes the directory of a run with a model that has overfitted ANSWERS, and answers nothing else."""
    directory.mkdir(parents=True)
    tokenizers.train(iter([*make_documents(), *ANSWERS, *ANSWERS.values()]), 400, directory / "tokenizer")
    tokenizer = tokenizers.load(str(directory / "tokenizer"), chat_template=template)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), max_position_embeddings=128, **size, **ids)
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = []
    for question, answer in ANSWERS.items():
        prompt = inference.encode(tokenizer, user(question))
        said = [*tokenizer(answer)["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]
        rows.append((torch.tensor([prompt + said]), torch.tensor([[-100] * len(prompt) + said])))
    for _ in range(40):
        sum(model(ids, labels=labels).loss for ids, labels in rows).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")


def adapted(run: Path, directory: Path, **settings: Any) -> Path:
    """An adapter of random weights on the run's model, with its tokenizer."""
    torch.manual_seed(1)
    network = AutoModelForCausalLM.from_pretrained(run / "model")
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False, lora_dropout=0.5, **settings
    )
    get_peft_model(network, config).save_pretrained(directory)
    tokenizers.load(str(run / "model")).save_pretrained(directory)
    return directory


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(torch.arange(40).unsqueeze(0)).logits
    return result


def answer(loaded: load.Loaded, prompts: list[list[int]], **sampling: Any) -> list[inference.Answer]:
    ends = inference.end_ids(loaded.tokenizer)
    return inference.generate(loaded.model, loaded.tokenizer, prompts, ends, Sampling(**sampling))
