"""Costs of preparing conversations, and the share that is trained on, compared with TRL's SFTTrainer.

Run it in the project's environment: python benchmarks/sft_data.py [--trl-path DIR]
trainyard does not require TRL: pip install --target DIR --no-deps trl

  speed  From a file of conversations to sequences of 2,048 tokens with the answers marked. Whole processes take turns,
         --rounds times: `python -m trainyard prepare sft`; TRL's SFTTrainer for a tiny model with assistant_only_loss
         and packing (bfd), with dataset_num_proc at None and with a process per core. `process s` is from the start of
         the process to its exit, `cpu s` is the time of all its processes; both are medians. A ratio is a way's
         seconds divided by trainyard's, as the median over the rounds. The bar is for the faster way of TRL in each
         round.
  kept   The tokens that are trained on, counted in the files that each way leaves, and the share of the learned tokens
         of the input. `cut short` are answers whose beginning is kept without their end, so that a model learns not to
         stop; `no answer` are samples without a learned token. trainyard makes a plan for each data.truncation; the
         first is the default.

The run fails unless both give the same ids and mask for the part of each conversation that TRL keeps. (TRL would merge
white space at the start of an answer with the line break before it, which no prompt does at inference.) The default
file has 100,000 conversations about the standard library, from its docstrings, signatures and sources, drawn with a
seed.
"""

import argparse
import ast
import inspect
import json
import os
import platform
import random
import statistics
import sys
import sysconfig
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from measure import Row, finished, judged, show

from trainyard.data.sequences.packing import best_fit
from trainyard.data.sequences.truncation import TRUNCATIONS, fit
from trainyard.data.store import TokenStore

RESULTS = Path(__file__).resolve().parent / "results" / "sft_data.json"
BLOCK = 2048
AT_LEAST = {"ratio": 3.0, "fill": 0.995}
AT_MOST = {"lost_of_fitting": 0, "lost": 0, "cut_short": 0}
# chatml.jinja with the tags that TRL asks for; what it renders is compared with trainyard's.
TAGGED = """{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{ message.content + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message.content + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
SYSTEM = (
    "You are a patient teacher of Python.",
    "Answer briefly, as a reference would.",
    "You help with Python's standard library. Say what is so, and say so when you do not know.",
)


# ---- the file ----


def topics() -> Iterator[list[tuple[str, str]]]:
    """Questions and answers about each documented function and class of the standard library."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    for file in sorted(file for file in stdlib.rglob("*.py") if "site-packages" not in file.parts):
        try:
            tree = ast.parse(text := file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):  # the standard library tests itself with such files
            continue
        lines, module = text.split("\n"), ".".join(file.relative_to(stdlib).with_suffix("").parts)
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if described := (ast.get_docstring(node) or "").strip():
                made = [(f"What does `{module}.{node.name}` do?", described)]
                if not isinstance(node, ast.ClassDef):
                    source = inspect.cleandoc("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                    made.append(("How is it called?", f"`{node.name}({ast.unparse(node.args)})`"))
                    made.append(("Show me its source.", f"```python\n{source}\n```"))
                yield made


def write_conversations(path: Path, count: int) -> Path:
    """Conversations of one to sixteen topics, some with further questions; every fourth has a system message."""
    warnings.simplefilter("ignore")
    every, draw = list(topics()), random.Random(0)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            said = [{"role": "system", "content": draw.choice(SYSTEM)}] if draw.random() < 0.25 else []
            for first, *further in draw.sample(every, min(16, 1 + int(draw.expovariate(0.55)))):
                for question, answer in [first, *(each for each in further if draw.random() < 0.5)]:
                    said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            stream.write(json.dumps({"messages": said}, ensure_ascii=False) + "\n")
    return path


# ---- the ways ----


def by_trl(corpus: str, tokenizer: str, processes: str, folder: str) -> list[str]:
    """The Arrow files of an SFTTrainer that is ready to train."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.chat_template = TAGGED
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    trainer = SFTTrainer(
        model=LlamaForCausalLM(LlamaConfig(vocab_size=len(loaded), **sizes)),
        args=SFTConfig(
            output_dir=folder, assistant_only_loss=True, packing=True, packing_strategy="bfd", max_length=BLOCK,
            dataset_num_proc=int(processes) or None, use_cpu=True, bf16=False, report_to="none",
        ),
        train_dataset=load_dataset("json", data_files=corpus, split="train"),
        processing_class=loaded,
    )  # fmt: skip
    return [file["filename"] for file in trainer.train_dataset.cache_files]


def ours(options: argparse.Namespace) -> Row:
    """Prepares the file with trainyard; the last line that it prints."""
    outputs = tempfile.mkdtemp(dir=options.folder)
    settings = [f"paths.outputs={outputs}", f"data.sources=[{{path: {options.corpus}, format: messages}}]"]
    settings += [f"tokenizer.path={options.tokenizer}"] if options.tokenizer else ["tokenizer.vocab_size=6400"]
    settings += ["data.chat_template=chatml", "data.packing=best_fit", "data.eval_fraction=0"]
    settings += [f"{name}={BLOCK}" for name in ("data.block_size", "model.max_position_embeddings")]
    return finished([sys.executable, "-m", "trainyard", "prepare", "sft", *settings])


def theirs(options: argparse.Namespace, processes: int) -> Row:
    """Prepares the file with TRL, in a process with an empty cache; the last line that it prints."""
    cache = tempfile.mkdtemp(dir=options.folder)
    env = {"HF_DATASETS_CACHE": cache} | ({"PYTHONPATH": str(options.trl_path)} if options.trl_path else {})
    arguments = [str(options.corpus), str(options.tokenizer), str(processes), f"{cache}/trainer"]
    return finished([sys.executable, str(Path(__file__).resolve()), "--way", *arguments], **env)


# ---- what is trained on ----


@dataclass(frozen=True)
class Documents:
    """Conversations as flat arrays: `ids` and `learned` (bool) per token, `lengths` per conversation."""

    ids: Any
    learned: Any
    lengths: Any

    @property
    def starts(self) -> Any:
        """The first token of each conversation."""
        return np.cumsum(self.lengths) - self.lengths

    def digest(self, most: int) -> int:
        """A digest of the first `most` ids and their mask of all conversations, in any order of the conversations."""
        ids, learned = self.ids.astype(np.int32), self.learned.astype(np.uint8)
        total = 0
        for start, stop in zip(self.starts, self.starts + np.minimum(self.lengths, most), strict=True):
            total += xxhash.xxh3_64_intdigest(ids[start:stop].tobytes() + learned[start:stop].tobytes())
        return total % (1 << 64)


def of_store(store: TokenStore) -> Documents:
    """The conversations of trainyard's store."""
    learned = store.read(0, store.num_tokens, "loss_mask").astype(bool)
    return Documents(store.read(0, store.num_tokens), learned, np.asarray(store.lengths, dtype=np.int64))


def of_trl(files: list[str]) -> tuple[Documents, int]:
    """The conversations as SFTTrainer trains on them, and the number of its sequences."""
    table = pa.concat_tables(pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files)
    columns = ("input_ids", "labels", "seq_lengths")
    ids, labels, lengths = (table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in columns)
    return Documents(ids, labels != -100, lengths.astype(np.int64)), len(table)


def kept_row(way: str, whole: Documents, kept: Any, sequences: int, tokens: int) -> Row:
    """Figures of what is trained on when the tokens marked in `kept` (bool) are."""
    seen, lost = kept & whole.learned, whole.learned & ~kept
    kept_of, seen_of, lost_of = (np.add.reduceat(marked, whole.starts) for marked in (kept, seen, lost))
    return {
        "way": way,
        "sequences": sequences,
        "fill": tokens / (sequences * BLOCK),
        "learned": int(seen.sum()),
        "lost": int(lost.sum()),
        "lost of those that fit": int(lost_of[whole.lengths <= BLOCK].sum()),
        "cut short": int((seen[:-1] & lost[1:]).sum()),
        "no answer": int(((kept_of > 0) & (seen_of == 0)).sum()),
        "left out": int((kept_of == 0).sum()),
    }


def kept_rows(prepared: Path, trl_files: list[str]) -> list[Row]:
    """
    Raises:
        RuntimeError: the two do not give the same ids and mask, or a plan holds a learned token twice.
    """
    store = TokenStore(prepared)
    whole, rows = of_store(store), []
    for truncation in TRUNCATIONS:
        fitted = fit(store, np.arange(len(store)), BLOCK, truncation)
        packed = best_fit(np.arange(len(fitted.starts)), fitted.lengths + fitted.leads, BLOCK)
        plan, times = fitted.expand(packed), np.zeros(len(whole.ids) + 1, np.int32)
        np.add.at(times, plan.starts + ~plan.joins, 1)  # nothing predicts the first token of a segment
        np.add.at(times, plan.starts + plan.lengths, -1)
        held = np.cumsum(times[:-1])
        if held[whole.learned].max() > 1:
            raise RuntimeError(f"data.truncation={truncation}: a learned token is in several sequences")
        rows.append(kept_row(f"trainyard, {truncation}", whole, held > 0, len(plan), plan.num_tokens))
    if trl_files:
        packed_by_trl, sequences = of_trl(trl_files)
        if packed_by_trl.digest(BLOCK) != whole.digest(BLOCK):
            raise RuntimeError("TRL and trainyard differ in ids or mask of a conversation")
        places = np.arange(len(whole.ids)) - np.repeat(whole.starts, whole.lengths)
        rows.append(kept_row("TRL, bfd", whole, places < BLOCK, sequences, len(packed_by_trl.ids)))
    return rows


def speed_rows(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows of the table, and the files that TRL made in its last turn."""
    turns: dict[str, list[Row]] = defaultdict(list)
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
        turns["trainyard"].append(ours(options))
        for processes in (0, os.cpu_count() or 1) if options.trl else ():
            turns[f"TRL, dataset_num_proc={processes or None}"].append(theirs(options, processes))
    rows = []
    for way, reports in turns.items():
        pairs = list(zip(reports, turns["trainyard"], strict=True))
        seconds = statistics.median(report["process_s"] for report in reports)
        rows.append(
            {
                "way": way,
                "process s": seconds,
                "conversations/s": options.count / seconds,
                "ratio": statistics.median(report["process_s"] / mine["process_s"] for report, mine in pairs),
                "cpu s": statistics.median(report["cpu_s"] for report in reports),
                "rounds s": [round(report["process_s"], 1) for report in reports],
            }
        )
    return rows, reports[-1]["printed"] if options.trl else []


def main() -> None:
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps({"printed": by_trl(*sys.argv[2:])}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="JSON Lines with a column `messages`; default: made here")
    parser.add_argument("--conversations", type=int, default=100_000, help="of the default file")
    parser.add_argument("--tokenizer", type=Path, help="directory; default: one trained on the file")
    parser.add_argument("--trl-path", type=Path, help="where TRL lies, if not in this environment")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the ways to prepare")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        options.corpus = options.corpus or write_conversations(options.folder / "chats.jsonl", options.conversations)
        options.trl = PathFinder.find_spec("trl", [str(options.trl_path), *sys.path])
        print(f"TRL {'found' if options.trl else 'is left out: it is not installed'}")
        first = ours(options)
        options.tokenizer, options.count = Path(first["tokenizer"]), first["documents"]
        result: Row = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "load_before": os.getloadavg()[0]}
        result |= {"conversations": options.count, "mb": options.corpus.stat().st_size / 1e6, "tokens": first["tokens"]}
        result["longer"] = int((TokenStore(Path(first["prepared"])).lengths > BLOCK).sum())
        result["speed"], files = speed_rows(options)
        result["kept"] = kept_rows(Path(first["prepared"]), files)
    show("speed", result["speed"])
    show("kept", result["kept"])
    mine, lost = result["kept"][0], result["kept"][TRUNCATIONS.index("split")]["lost"]
    figures = {"fill": mine["fill"], "lost": lost, "lost_of_fitting": mine["lost of those that fit"]}
    if files:
        by_round = zip(*(row["rounds s"] for row in result["speed"]), strict=True)
        figures["ratio"] = statistics.median(min(others) / own for own, *others in by_round)
    result["bars"] = judged(figures | {"cut_short": mine["cut short"]}, AT_LEAST, AT_MOST)
    show("bars", result["bars"])
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
