"""How long a save holds up the training: trainyard, in the background and at once, compared with a plain Trainer.

Run it in the project's environment: python benchmarks/checkpoint.py [--rounds 3]
All train a model of the same shape with ZeRO-2 on the same number of ranks and save every third step. A stall is the
time from the end of a step to the end of the Trainer's save on rank 0. `whole_s` is the time until a run can resume
from the checkpoint; for the plain Trainer both are the same. trainyard flushes its files to the disk and writes their
checksums to a manifest; the plain Trainer leaves its files to the system's cache. The three take turns. The figures are
medians over the saves of each run without the first; ratios are medians over the rounds.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import Row, show, timed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "checkpoint.json"

SIZES = {"5 M": (256, 4), "35 M": (512, 8), "136 M": (1024, 8)}
"""Width and layers, by the number of parameters."""

STEPS, EVERY = 12, 3

PLAIN = """
import json
import sys
import time
import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

class Stalls(TrainerCallback):
    seconds = []

    def on_step_end(self, args, state, control, **kwargs):
        self.since = time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        self.seconds.append(time.monotonic() - self.since)

output, config, ds_config, steps, every = sys.argv[1:]
args = TrainingArguments(output_dir=output, max_steps=int(steps), per_device_train_batch_size=1, deepspeed=ds_config,
                         use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(), report_to="none",
                         disable_tqdm=True, save_steps=int(every), save_total_limit=1, logging_strategy="no")
config = AutoConfig.for_model(**json.loads(config))
ids = torch.randint(0, 2048, (64, 64))
rows = [{"input_ids": row, "labels": row} for row in ids]
stalls = Stalls()
Trainer(AutoModelForCausalLM.from_config(config), args, train_dataset=rows, callbacks=[stalls]).train()
if args.process_index == 0:
    open(f"{output}/stalls.json", "w").write(json.dumps(stalls.seconds))
"""


def shape(width: int, layers: int) -> dict[str, int]:
    """The settings of a model, by its width and layers."""
    heads = width // 64
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
    }


def threads(ranks: int) -> str:
    """Threads of each rank."""
    return str(max(1, (os.cpu_count() or 1) // ranks))


def plain(folder: Path, model: dict[str, int], ranks: int) -> Row:
    """Seconds of a stall, and until the checkpoint is whole, as medians of one run of a plain Trainer."""
    script = folder / "plain.py"
    script.write_text(PLAIN)
    config = {"model_type": "llama", "vocab_size": 2048, "max_position_embeddings": 1024, "tie_word_embeddings": True}
    deepspeed = [str(Path(sys.executable).with_name("deepspeed")), "--no_local_rank", f"--num_gpus={ranks}"]
    output = folder / "plain"
    values = [str(output), json.dumps(config | model), str(ROOT / "ds_configs" / "zero2.json"), str(STEPS), str(EVERY)]
    timed([*deepspeed, str(script), *values], OMP_NUM_THREADS=threads(ranks))
    stall = statistics.median(json.loads((output / "stalls.json").read_text())[1:])
    return {"stall_s": stall, "whole_s": stall}


def ours(folder: Path, model: dict[str, int], ranks: int, *, in_background: bool) -> Row:
    """The same figures for a run of trainyard."""
    name = f"{'background' if in_background else 'at-once'}-{model['hidden_size']}"
    settings = [f"paths.outputs={folder}", f"run.name={name}", "run.resume=never", f"launch.num_devices={ranks}"]
    batch = [f"trainer.global_batch_size={ranks}", "trainer.per_device_train_batch_size=1", "data.block_size=64"]
    saves = [f"trainer.max_steps={STEPS}", f"trainer.save_steps={EVERY}", "trainer.save_total_limit=1"]
    rest = ["trainer.eval_strategy=no", "trainer.eval_on_start=false", "trainer.logging_steps=1", "tracking=none"]
    rest += [f"trainer.async_save={str(in_background).lower()}", "trainer.gradient_accumulation_steps=1"]
    shaped = [f"model.{key}={value}" for key, value in model.items()]
    timed([sys.executable, "-m", "pretrain", *settings, *batch, *saves, *rest, *shaped], OMP_NUM_THREADS=threads(ranks))
    place = folder / "pretrain" / name
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    stalls = [row["save_stall_s"] for row in rows if "save_stall_s" in row]
    whole = re.findall(r"checkpoint saved in ([\d.]+) s", (place / "logs" / "rank-0.log").read_text())
    return {"stall_s": statistics.median(stalls[1:]), "whole_s": statistics.median(map(float, whole[1:]))}


def compare(folder: Path, model: dict[str, int], ranks: int, rounds: int) -> dict[str, Any]:
    """The figures of the three ways for one model."""
    taken: dict[str, list[Row]] = {"plain": [], "at once": [], "in the background": []}
    for _ in range(rounds):
        taken["plain"].append(plain(folder, model, ranks))
        taken["at once"].append(ours(folder, model, ranks, in_background=False))
        taken["in the background"].append(ours(folder, model, ranks, in_background=True))
    result: dict[str, Any] = {}
    for way, rows in taken.items():
        ratios = [row["stall_s"] / bare["stall_s"] for row, bare in zip(rows, taken["plain"], strict=True)]
        figures = {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}
        result[way] = figures | {"stall_to_plain": round(statistics.median(ratios), 3)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    arguments = parser.parse_args()
    sizes: dict[str, dict[str, Any]] = {}
    for size, (width, layers) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            sizes[size] = compare(Path(folder), shape(width, layers), arguments.ranks, arguments.rounds)
        show(f"{size} parameters", [{"save": way} | figures for way, figures in sizes[size].items()])
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    arguments.out.write_text(
        json.dumps({"machine": machine, "rounds": arguments.rounds, "sizes": sizes}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
