"""Costs of the data path: preparing, reading, packing, resuming and memory, compared with other libraries.

Run it in the project's environment: python benchmarks/data.py [--only prepare read pack resume memory]
  prepare  From JSONL to sequences of 1,024 tokens. Each way has a process of its own and all cores: `python -m
           trainyard prepare`; transformers' run_clm, two calls of datasets.map with a process per core; `tokenizers`
           encode_batch_fast alone, with the texts in memory; TRL's pack_dataset (bfd, which drops the rest of documents
           longer than a block) instead of the second map. They take turns, --rounds times. `process s` is from the
           start of the process to its exit, `inside s` is without imports and set-up; for encode_batch_fast it is the
           time of these calls. A ratio is a way's seconds divided by trainyard's, as the median over the rounds. Quote
           the ratio of the processes.
  read     Microseconds to read a random sequence of 2,048 tokens. The readers take turns at each read.
  pack     best_fit on 1,000,000 documents whose lengths are drawn from the corpus, best of 3. TRL (bfd_split, which
           loses no token) packs the documents of the corpus: it moves their tokens, while best_fit makes indices.
  resume   Building the loader and taking its first batch, at position 0 and at the end of 100,000,000 sequences. The
           two take turns, each time with another seed, so that no batch finds its pages in memory.
  memory   Peak resident memory of `python -m trainyard prepare` on 10 MB and on 1 GB of JSONL.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
from measure import Row, finished, judged, show

# No torch up here: the kernel counts the memory of the process that measures in the peak of those that it starts.
from trainyard.data.sequences.packing import Plan, best_fit, concat
from trainyard.data.store import TokenStore

RESULTS = Path(__file__).resolve().parent / "results" / "data.json"
SUFFIXES = {".py", ".pyi", ".h", ".hpp", ".md", ".rst", ".txt", ".js", ".c", ".cpp", ".json", ".cuh"}
AT_LEAST = {"run_clm_ratio": 10.0, "fill": 0.999, "packed_per_s": 1e6}
AT_MOST = {"bytes_per_token": 2.1, "read_us": 20.0, "first_batch_ratio": 1.2, "memory_ratio": 1.2}
BLOCK, LONG_BLOCK = 1024, 2048
TRL = "TRL pack_dataset"
Part = tuple[list[Row], dict[str, float]]  # the lines of its table, and its figures for which there are bars


def texts(corpus: str | Path) -> Iterator[str]:
    """The texts of a JSONL file."""
    with Path(corpus).open(encoding="utf-8") as stream:
        yield from (json.loads(line)["text"] for line in stream)


def group_texts(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Concatenates documents and cuts blocks, as transformers' run_clm.py does."""
    concatenated = {key: list(itertools.chain(*examples[key])) for key in examples}
    total = len(concatenated["input_ids"]) // BLOCK * BLOCK
    result = {key: [ids[i : i + BLOCK] for i in range(0, total, BLOCK)] for key, ids in concatenated.items()}
    return result | {"labels": result["input_ids"].copy()}


def by_datasets(corpus: str, tokenizer: str, packer: str) -> Row:
    """Two calls of datasets.map, as run_clm makes them; the second is TRL's packing if the packer says so."""
    import datasets
    from transformers import AutoTokenizer

    if packer == TRL:
        from trl import pack_dataset
    loaded, cores, started = AutoTokenizer.from_pretrained(tokenizer), os.cpu_count(), time.perf_counter()
    rows = datasets.load_dataset("json", data_files=corpus, split="train")
    rows = rows.map(lambda batch: loaded(batch["text"]), batched=True, num_proc=cores, remove_columns=rows.column_names)
    tokenized = time.perf_counter()
    if packer == TRL:
        rows = pack_dataset(rows.select_columns(["input_ids"]), BLOCK, "bfd", map_kwargs={"num_proc": cores})
    else:
        rows = rows.map(group_texts, batched=True, num_proc=cores)
    seconds, second_map = time.perf_counter() - started, time.perf_counter() - tokenized
    tokens = sum(map(sum, rows["seq_lengths"])) if packer == TRL else len(rows) * BLOCK
    bytes_per_token = sum(Path(file["filename"]).stat().st_size for file in rows.cache_files) / tokens
    return {"seconds": seconds, "tokens": tokens, "bytes_per_token": bytes_per_token, "second_map_s": second_map}


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def encode_batch(corpus: str, tokenizer: str) -> Row:
    """encode_batch_fast of tokenizers, on texts in memory."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import Tokenizer

    loaded, documents = Tokenizer.from_file(f"{tokenizer}/tokenizer.json"), list(texts(corpus))
    batches = [documents[first : first + 1000] for first in range(0, len(documents), 1000)]
    return {"seconds": sum(seconds_of(lambda batch=batch: loaded.encode_batch_fast(batch)) for batch in batches)}


def read(prepared: str, folder: str) -> Part:
    """The part `read`."""
    import datasets

    from trainyard.data.batches.dataset import TokenDataset

    store = TokenStore(Path(prepared))
    lengths = np.asarray(store.lengths, dtype=np.int64)
    ours = TokenDataset(store, concat(np.cumsum(lengths) - lengths, lengths, LONG_BLOCK, keep_tail=False))
    count = min(20_000, len(ours))
    ids = store.read(0, count * LONG_BLOCK).astype(np.int32).reshape(count, LONG_BLOCK)
    datasets.Dataset.from_dict({"input_ids": ids}).save_to_disk(f"{folder}/rows")
    rows, arrays = (datasets.load_from_disk(f"{folder}/rows").with_format(kind) for kind in (None, "numpy"))
    taken: dict[str, list[float]] = {"trainyard": [], "datasets": [], "datasets, format numpy": []}
    for i in np.random.default_rng(0).integers(0, count, 3000):
        taken["trainyard"].append(seconds_of(lambda i=i: ours[i]))
        taken["datasets"].append(seconds_of(lambda i=int(i): rows[i]["input_ids"]))
        taken["datasets, format numpy"].append(seconds_of(lambda i=int(i): arrays[i]["input_ids"]))
    medians = {name: statistics.median(values) * 1e6 for name, values in taken.items()}
    shown = [{"reader": name, "us": us, "ratio": us / medians["trainyard"]} for name, us in medians.items()]
    return shown, {"read_us": medians["trainyard"]}


def pack(prepared: str, folder: str) -> Part:
    """The part `pack`."""
    drawn = np.random.default_rng(0).choice(TokenStore(Path(prepared)).lengths, 1_000_000).astype(np.int64)
    starts = np.cumsum(drawn) - drawn
    seconds = min(seconds_of(lambda: best_fit(starts, drawn, LONG_BLOCK)) for _ in range(3))
    fill = best_fit(starts, drawn, LONG_BLOCK).fill
    shown = [{"packer": "best_fit", "documents": len(drawn), "documents/s": len(drawn) / seconds, "fill": fill}]
    if PathFinder.find_spec("trl"):
        import datasets
        from trl import pack_dataset

        datasets.disable_caching()  # or the second time would find what the first has made
        rows = datasets.load_from_disk(prepared)
        rows = rows.select(range(min(20_000, len(rows))))
        seconds = min(seconds_of(lambda: pack_dataset(rows, LONG_BLOCK, "bfd_split")) for _ in range(3))
        packed = pack_dataset(rows, LONG_BLOCK, "bfd_split")
        fill = sum(map(sum, packed["seq_lengths"])) / (len(packed) * LONG_BLOCK)
        shown.append({"packer": TRL, "documents": len(rows), "documents/s": len(rows) / seconds, "fill": fill})
    return shown, {"packed_per_s": shown[0]["documents/s"], "fill": shown[0]["fill"]}


def resume(prepared: str, folder: str) -> Part:
    """The part `resume`."""
    from trainyard.data.batches.collator import Collator
    from trainyard.data.batches.dataset import TokenDataset
    from trainyard.data.batches.loader import BatchLayout, train_loader

    store, count, block = TokenStore(Path(prepared)), 100_000_000, 64
    starts = np.random.default_rng(0).integers(0, store.num_tokens - block + 1, count)
    plan = Plan(block, np.arange(count + 1), starts, np.full(count, block, np.int32), count * block)
    dataset = TokenDataset(store, Plan.load(Path(folder), "plan", plan.save(Path(folder), "plan")))
    collator, split, steps = (
        Collator(block),
        BatchLayout(rank=0, world_size=1, micro_batch=8, accumulation=1),
        count // 8,
    )

    def first_batch(step: int, seed: int) -> None:
        next(iter(train_loader(dataset, collator, split, seed=seed, start_step=step, max_steps=steps)))

    taken: dict[int, list[float]] = {0: [], steps - 1: []}
    for seed in range(200):
        for step in sorted(taken, reverse=bool(seed % 2)):
            taken[step].append(seconds_of(lambda step=step, seed=seed: first_batch(step, seed)))
    start, end = (statistics.median(values) * 1e3 for values in taken.values())
    return [{"sequences": count, "start ms": start, "end ms": end}], {"first_batch_ratio": end / start}


# What runs in a process of its own, and returns what that process prints.
WAYS = {way.__name__: way for way in (by_datasets, encode_batch, read, pack, resume)}


def ours(options: argparse.Namespace, corpus: Path) -> Row:
    """The part `prepare`, by trainyard."""
    outputs = tempfile.mkdtemp(dir=options.folder)
    settings = [f"paths.outputs={outputs}", f"data.sources=[{{path: {corpus}, format: jsonl}}]"]
    settings.append(f"tokenizer.path={options.tokenizer}" if options.tokenizer else "tokenizer.vocab_size=6400")
    return finished([sys.executable, "-m", "trainyard", "prepare", "pretrain", *settings, f"data.block_size={BLOCK}"])


def way(options: argparse.Namespace, name: str, *arguments: Path | str) -> Any:
    """Runs one of WAYS in a process with an empty cache."""
    trl = {"PYTHONPATH": str(options.trl_path)} if options.trl_path and {"pack", TRL} & {name, *arguments} else {}
    with tempfile.TemporaryDirectory(dir=options.folder) as cache:
        command = [sys.executable, str(Path(__file__).resolve()), "--way", name, *map(str, arguments)]
        return finished(command, HF_DATASETS_CACHE=cache, **trl)


def write_corpus(path: Path, megabytes: float) -> Path:
    """The texts of the standard library and of site-packages, without repetitions."""
    roots, seen = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")}, set()
    with path.open("w", encoding="utf-8") as stream:
        for file in sorted(file for root in roots for file in root.rglob("*") if file.suffix in SUFFIXES):
            text = file.read_text(encoding="utf-8", errors="ignore") if file.is_file() else ""
            if text.strip() and len(text) < 2_000_000 and hash(text) not in seen:
                seen.add(hash(text))
                stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            if stream.tell() > megabytes * 1e6:
                break
    return path


def write_grown(corpus: Path, path: Path, megabytes: float) -> None:
    """Repeats the corpus; each document gets a first line of its own, every second repetition has lines in reverse."""
    with path.open("w", encoding="utf-8") as stream:
        for repetition in itertools.count():
            for number, text in enumerate(texts(corpus)):
                lines = [f"{repetition} {number}", *text.split("\n")[:: -1 if repetition % 2 else 1]]
                stream.write(json.dumps({"text": "\n".join(lines)}, ensure_ascii=False) + "\n")
                if stream.tell() > megabytes * 1e6:
                    return


def prepare_part(options: argparse.Namespace) -> Part:
    turns: dict[str, list[Row]] = defaultdict(list)
    paths = (options.corpus, options.tokenizer)
    for _ in range(options.rounds):
        turns["trainyard"].append(ours(options, options.corpus))
        turns["run_clm"].append(way(options, "by_datasets", *paths, "run_clm"))
        turns["encode_batch_fast"].append(way(options, "encode_batch", *paths))
        if options.trl:
            turns[TRL].append(way(options, "by_datasets", *paths, TRL))
    rows = []
    for name, reports in turns.items():
        row: Row = {"way": name}
        for label, key in (("process", "process_s"), ("inside", "seconds")):
            ratios = [report[key] / mine[key] for report, mine in zip(reports, turns["trainyard"], strict=True)]
            row[f"{label} s"] = statistics.median(report[key] for report in reports)
            row[f"{label} ratio"] = statistics.median(ratios)
        row["MB/s inside"] = options.text_mb / row["inside s"]
        rows.append(row | {key: reports[-1].get(key, "") for key in ("second_map_s", "tokens", "bytes_per_token")})
    return rows, {"run_clm_ratio": rows[1]["process ratio"], "bytes_per_token": rows[0]["bytes_per_token"]}


def memory_part(options: argparse.Namespace) -> Part:
    rows = []
    for megabytes in (10, options.big_megabytes):
        file = options.folder / f"{megabytes}.jsonl"
        write_grown(options.corpus, file, megabytes)
        report = ours(options, file)
        rows.append({"MB": megabytes} | {key: report[key] for key in ("peak_mb", "process_s", "mb_per_s", "documents")})
    return rows, {"memory_ratio": rows[1]["peak_mb"] / rows[0]["peak_mb"]}


PARTS = {"prepare": prepare_part, "read": None, "pack": None, "resume": None, "memory": memory_part}


def main() -> None:
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(WAYS[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--corpus", type=Path, help="JSONL with a column `text`; default: source files of this Python")
    parser.add_argument("--megabytes", type=float, default=200, help="of the default corpus")
    parser.add_argument("--big-megabytes", type=float, default=1000, help="the larger corpus of the memory part")
    parser.add_argument("--tokenizer", type=Path, help="directory; default: one trained on the corpus")
    parser.add_argument("--trl-path", type=Path, help="where TRL lies, if not in this environment")
    parser.add_argument("--rounds", type=int, default=1, help="turns of the ways to prepare")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        options.corpus = options.corpus or write_corpus(options.folder / "corpus.jsonl", options.megabytes)
        options.trl = PathFinder.find_spec("trl", [str(options.trl_path), *sys.path])
        print(f"TRL {'found' if options.trl else 'is left out: it is not installed'}")
        first = ours(options, options.corpus)
        options.prepared, options.tokenizer = Path(first["prepared"]), Path(first["tokenizer"])
        result: Row = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "bars": []}
        result["text_mb"] = options.text_mb = TokenStore(options.prepared).summary.bytes / 1e6
        for name in options.only:
            part = PARTS[name]
            result[name], figures = part(options) if part else way(options, name, options.prepared, options.folder)
            show(name, result[name])
            result["bars"] += judged(figures, AT_LEAST, AT_MOST)
        show("bars", result["bars"])
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
