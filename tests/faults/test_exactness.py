"""A run that is stopped and resumed any number of times at any step equals the run without stops, bit for bit."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Finished, make_documents
from disturb import Warm, assert_same_run

from trainyard.checkpoint.manifest import Manifest, verify

SAMPLES, PER_STEP = 24, 8
"""Documents of each corpus, one sequence each, and sequences of a step: a run is three epochs of three steps."""

STOPS = {"in an epoch": [4], "at two epochs' ends": [3, 6], "five times": [1, 2, 4, 6, 8]}

ROWS = [
    # what        sharding  stopped                 data workers
    ("pretrain", "none", "in an epoch", 2),
    ("pretrain", "zero2", "five times", 0),
    ("pretrain", "zero3", "at two epochs' ends", 2),
    ("sft", "none", "at two epochs' ends", 0),
    ("sft", "zero2", "in an epoch", 2),
    ("sft", "zero3", "five times", 0),
    ("sft lora", "none", "five times", 2),
    ("sft lora", "zero2", "at two epochs' ends", 0),
    ("sft lora", "zero3", "in an epoch", 0),
]
"""Every pair of values of any two columns occurs, see the next test."""
REPRESENTATIVE = 2


def test_every_pair_of_values_occurs() -> None:
    for one, other in itertools.combinations(range(4), 2):
        values = [{row[column] for row in ROWS} for column in (one, other)]
        pairs = {(row[one], row[other]) for row in ROWS}
        assert pairs == set(itertools.product(*values))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pretrained model and a corpus of SAMPLES short documents for each stage."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainyard.data.tokenization import tokenizer as tokenizers

    directory = tmp_path_factory.mktemp("exact")
    tokenizers.train(iter(make_documents()), 400, directory / "model")
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "attention_dropout": 0.1}
    vocab_size = len(tokenizers.load(str(directory / "model")))
    LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **size, **heads)).save_pretrained(directory / "model")
    texts = [f"{number} {text[:40]}" for number, text in enumerate(make_documents(SAMPLES))]
    for stage, rows in (
        ("pretrain", [{"text": text} for text in texts]),
        ("sft", [{"instruction": f"say {number}", "output": text} for number, text in enumerate(texts)]),
    ):
        (directory / f"{stage}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


class Command:
    """The command of a row, to be run undisturbed or stopped at a step."""

    def __init__(self, warm: Warm, base: Path, what: str, sharding: str):
        self.warm, (self.stage, *lora) = warm, what.split()
        self.corpus = base / f"{self.stage}.jsonl"
        self.seen = base / f"{what}-{sharding}-seen"
        shape = [f"{item.partition('=')[0]}=null" for item in TINY if item.startswith("model.")]
        self.settings = [
            f"model.path={base / 'model'}", *shape, f"deepspeed={sharding}", *(f"peft={name}" for name in lora),
            "data.packing=padded", "data.eval_fraction=0", "trainer.num_train_epochs=3", "trainer.max_steps=-1",
            "trainer.save_steps=100", "tracking=none",
        ]  # fmt: skip

    def __call__(self, name: str, workers: int = 0, stop_at: int | None = None, *overrides: str) -> Finished:
        fault = "record 0 0" if stop_at is None else f"record 0 0;stop-in-forward 1 {stop_at - 1}"
        seen = self.seen.with_name(f"{name}-seen")
        setting = f"trainer.dataloader_num_workers={workers}"
        return self.warm(
            name, self.corpus, *self.settings, setting, *overrides, stage=self.stage, fault=fault, FAULT_SEEN=str(seen)
        )

    def order(self, name: str) -> list[str]:
        """Rank, step and hash of each sequence that was trained on: the lines of rank 0, then those of rank 1."""
        lines = self.seen.with_name(f"{name}-seen").read_text().splitlines()
        return [line for rank in "01" for line in lines if line.startswith(rank)]

    def samples(self, name: str) -> list[str]:
        """The hashes of all sequences in the global order: two ranks take micro batches of two in turn."""
        by_step: dict[int, dict[str, list[str]]] = {}
        for rank, step, digest in (line.split() for line in self.order(name)):
            by_step.setdefault(int(step), {"0": [], "1": []})[rank].append(digest)
        steps = [by_step[step] for step in sorted(by_step)]
        return [
            digest
            for step in steps
            for first in range(0, len(step["0"]), 2)
            for rank in "01"
            for digest in step[rank][first : first + 2]
        ]


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[str, str], Finished]:
    """The undisturbed runs by stage and sharding, each run once: data workers change nothing in them."""
    return {}


@pytest.mark.parametrize(
    ("what", "sharding", "stopped", "workers"),
    [pytest.param(*row, marks=[] if i == REPRESENTATIVE else pytest.mark.slow) for i, row in enumerate(ROWS)],
)
@pytest.mark.faults(case="1, 2", fault="stopped in and between epochs, up to five times: DDP, ZeRO-2, ZeRO-3, LoRA")
def test_stops_leave_no_trace(
    warm: Warm, base: Path, undisturbed: dict[Any, Finished], what: str, sharding: str, stopped: str, workers: int
) -> None:
    command = Command(warm, base, what, sharding)
    key = f"{what}-{sharding}".replace(" ", "-")
    if (what, sharding) not in undisturbed:
        undisturbed[what, sharding] = command(f"{key}-undisturbed")
    name = f"{key}-stopped"
    for step in STOPS[stopped]:
        done = command(name, workers, stop_at=step)
        assert done.code == 75, done.stdout + done.stderr
        assert (done.status["state"], done.status["step"]) == ("preempted", step)
        assert verify(done.run / "checkpoints" / f"checkpoint-{step}") is None
    done = command(name, workers)
    assert_same_run(done, undisturbed[what, sharding])
    assert done.status["resumed_from"] == STOPS[stopped]
    order = command.order(name)
    assert order == command.order(f"{key}-undisturbed")
    epochs = [Counter(line.split()[2] for line in order if int(line.split()[1]) // 3 == epoch) for epoch in range(3)]
    assert all(set(epoch.values()) == {1} and len(epoch) == SAMPLES for epoch in epochs)


@pytest.mark.faults(case="12", fault="another global batch on resume, as run.allow_changes has it, and a further stop")
def test_another_global_batch_goes_on_with_the_next_sample(
    warm: Warm, base: Path, undisturbed: dict[Any, Finished]
) -> None:
    """Four steps of eight sequences, then four a step: five of one and five of another start."""
    command, what = Command(warm, base, "pretrain", "zero3"), ("pretrain", "zero3")
    if what not in undisturbed:
        undisturbed[what] = command("pretrain-zero3-undisturbed")
    changed = ["trainer.global_batch_size=4", "run.allow_changes=[trainer.global_batch_size]"]
    assert command("batch", 0, 4).code == 75
    assert command("batch", 0, 9, *changed).code == 75
    done = command("batch", 0, None, *changed)
    assert done.code == 0, done.stdout + done.stderr
    assert command.samples("batch") == command.samples("pretrain-zero3-undisturbed")
    assert done.status["resumed_from"] == [4, 9] and done.status["step"] == done.status["max_steps"] == 14
    assert done.status["tokens_seen"] == pytest.approx(undisturbed[what].status["tokens_seen"], abs=14)
    manifest = Manifest.read(done.run / "checkpoints" / "checkpoint-14")
    assert manifest is not None and manifest.samples_seen == 3 * SAMPLES
    assert done.metrics[-1]["epoch"] == pytest.approx(3.0)
    rates = undisturbed[what].series("learning_rate")
    between = [rate for one, other in itertools.pairwise(rates[4:]) for rate in (one, (one + other) / 2)]
    assert done.series("learning_rate")[:4] == rates[:4]
    assert done.series("learning_rate")[4:12] == pytest.approx(between)
    assert "jumps" not in done.stdout and "goes on    from step 9, after 52 sequences" in done.stdout
