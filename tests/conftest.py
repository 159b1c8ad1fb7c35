"""Shared by the tests: a small corpus, the real launch, and runs that several tests examine."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_LOCAL_FILE = {"TRAINYARD_LOCAL": ""}
"""The tests do not depend on conf/local.yaml of the machine on which they run."""
os.environ.update(NO_LOCAL_FILE)

SHARED_DATA = ROOT.parent / "shared" / "data"

TINY = [
    "trainer=tiny",
    "model.hidden_size=64",
    "model.intermediate_size=128",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.max_position_embeddings=128",
    "tokenizer.vocab_size=512",
    "data.block_size=64",
    "data.eval_fraction=0.1",
    "trainer.per_device_train_batch_size=2",
    "trainer.global_batch_size=8",
    "trainer.max_steps=20",
    "trainer.logging_steps=1",
    "trainer.eval_steps=10",
    "trainer.save_steps=10",
]
"""A model that trains 20 steps in a second, on one rank or on two."""

SLOW = "trainer.eval_steps=1"
"""Evaluates after every step: the weights stay the same, and the run lasts long enough to interrupt it."""


@dataclass
class Finished:
    """A command that has ended, and its run directory, which may not exist."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    run: Path

    @property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return json.loads((self.run / "status.json").read_text())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]

    def series(self, name: str) -> list[float]:
        """The values of a metric, in the order of the lines."""
        return [row[name] for row in self.metrics if name in row]

    @property
    def weights(self) -> dict[str, Any]:
        """The saved model's tensors by name, or those of its adapter."""
        from safetensors.torch import load_file

        (file,) = (self.run / "model").glob("*.safetensors")
        return load_file(file)


def make_documents(count: int = 60, seed: int = 0) -> list[str]:
    """Texts of 20 to 200 words in ASCII, Chinese and emoji; the same seed gives the same texts."""
    draw = random.Random(seed)
    words = ["the", "yard", "trains", "tokens", "语言", "模型", "训练", "🚂", "def", "self", "x", "=", "1", "."]
    return [" ".join(draw.choices(words, k=draw.randint(20, 200))) for _ in range(count)]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents as JSON Lines, for all tests."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in make_documents()))
    return path


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """Forty documents as JSON Lines, in a file that the test may change."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in make_documents(40)))
    return path


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a tokenizer with 400 ids."""
    from trainyard.data.tokenization import tokenizer as tokenizers

    path = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizers.train(iter(make_documents()), 400, path)
    return str(path)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of all tests, so that their data is prepared once."""
    return tmp_path_factory.mktemp("outputs")


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without the variables of pytest and trainyard, with further variables."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "TRAINYARD"))}
    return {**env, **NO_LOCAL_FILE, **extra}


Pretrain = Callable[..., Finished]


def settings(outputs: Path, name: str, corpus: Path, *overrides: str, stage: str = "pretrain") -> list[str]:
    """The overrides of a run of the tiny model; later ones win."""
    form = {"pretrain": "jsonl", "sft": "alpaca"}[stage]
    source = f"data.sources=[{{path: '{corpus}', format: {form}}}]"
    return [f"paths.outputs={outputs}", f"run.name={name}", *TINY, source, *overrides]


def command(outputs: Path, name: str, corpus: Path, *overrides: str, stage: str = "pretrain") -> list[str]:
    """The command line of such a run."""
    return ["bash", str(ROOT / "launch" / f"{stage}.sh"), *settings(outputs, name, corpus, *overrides, stage=stage)]


def start(arguments: list[str], until: Callable[[], bool]) -> subprocess.Popen[str]:
    """Starts a command, and returns it as soon as `until` holds, while it goes on."""
    process = subprocess.Popen(arguments, env=clean_env(), stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not until():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    return process


@pytest.fixture(scope="session")
def pretrain(outputs: Path, corpus: Path) -> Pretrain:
    """Runs `bash launch/pretrain.sh` to its end with the tiny model: pretrain(name, *overrides, env={...})."""

    def run(name: str, *overrides: str, env: dict[str, str] | None = None) -> Finished:
        started = time.monotonic()
        done = subprocess.run(
            command(outputs, name, corpus, *overrides), env=clean_env(**(env or {})), capture_output=True, text=True
        )
        seconds = time.monotonic() - started
        return Finished(done.returncode, done.stdout, done.stderr, seconds, outputs / "pretrain" / name)

    return run


@pytest.fixture(scope="session")
def sft(outputs: Path) -> Callable[..., Finished]:
    """Runs `bash launch/sft.sh` to its end with the tiny model: sft(name, corpus, *overrides, env={...})."""

    def run(name: str, corpus: Path, *overrides: str, env: dict[str, str] | None = None) -> Finished:
        started = time.monotonic()
        arguments = command(outputs, name, corpus, *overrides, stage="sft")
        done = subprocess.run(arguments, env=clean_env(**(env or {})), capture_output=True, text=True)
        seconds = time.monotonic() - started
        return Finished(done.returncode, done.stdout, done.stderr, seconds, outputs / "sft" / name)

    return run


@pytest.fixture(scope="session")
def zero2_run(pretrain: Pretrain) -> Finished:
    """An undisturbed run of twenty steps, under ZeRO-2 on two ranks."""
    done = pretrain("zero2-2")
    assert done.code == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def lora(sft: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Finished]:
    """Trains a LoRA adapter, and tokens that a chat template adds to the base model's tokenizer: lora(name, ...)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainyard.data.tokenization import tokenizer as tokenizers

    directory = tmp_path_factory.mktemp("base")
    base, template, corpus = directory / "model", directory / "template.jinja", directory / "rows.jsonl"
    tokenizers.train(iter(make_documents()), 400, base)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizers.load(str(base))), **size, **heads)).save_pretrained(base)
    template.write_text(
        "{% for m in messages %}{{ '<|q|>' if m['role'] == 'user' else '<|a|>' }}{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    rows = [{"instruction": f"say {number}", "output": text[:30]} for number, text in enumerate(make_documents(40))]
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    shape = [f"{item.partition('=')[0]}=null" for item in TINY if item.startswith("model.")]
    added = "tokenizer.add_tokens=['<|q|>', '<|a|>', '<|end|>']"

    def run(name: str, *overrides: str) -> Finished:
        done = sft(
            name, corpus, f"model.path={base}", *shape, f"data.chat_template={template}",
            added, "peft=lora", "tracking.sample_tokens=8", *overrides,
        )  # fmt: skip
        assert done.code == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def lora_run(lora: Callable[..., Finished]) -> Finished:
    """Six steps of LoRA, under ZeRO-3 on two ranks."""
    return lora("lora", "deepspeed=zero3", "trainer.max_steps=6")


@pytest.fixture
def faults(outputs: Path, corpus: Path, pretrain: Pretrain) -> Any:
    """Starts runs with faults in them, see tests/faults/disturb.py."""
    from disturb import Faults

    return Faults(outputs, corpus, pretrain)


@pytest.fixture(scope="session")
def warm(outputs: Path) -> Iterator[Any]:
    """Runs commands without the time for imports, see tests/faults/warm.py."""
    from disturb import Warm

    with Warm(outputs) as ready:
        yield ready


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs the test in the root of the checkout."""
    monkeypatch.chdir(ROOT)
    yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notes the case and the fault of each test for the table at the end."""
    for item in items:
        for marker in item.iter_markers("faults"):
            item.user_properties.append(("fault", (marker.kwargs["case"], marker.kwargs["fault"])))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """With -m faults, what was done to runs and what came of it, as the table of docs/faults.md."""
    if terminalreporter.config.option.markexpr != "faults":
        return
    outcomes: dict[tuple[str, str], list[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for _, fault in (each for each in getattr(report, "user_properties", []) if each[0] == "fault"):
                outcomes.setdefault(tuple(fault), []).append(outcome)
    terminalreporter.section("faults")
    terminalreporter.line("| case | fault | outcome |\n|---|---|---|")
    for (case, fault), seen in sorted(outcomes.items(), key=lambda each: int(each[0][0].split(",")[0])):
        counted = ", ".join(f"{seen.count(outcome)} {outcome}" for outcome in dict.fromkeys(seen))
        terminalreporter.line(f"| {case} | {fault} | {counted} |")
