"""Time from the command to the end of the first optimizer step: trainyard compared with a bare Trainer.

It also measures launch/env.sh in an environment that is ready, and the answer to a mistake.

Run it in the project's environment: python benchmarks/startup.py [--pairs 5]
Both train the same model with ZeRO-2 on the same number of ranks. The bare script has its tokens in memory; trainyard
composes and checks a config, finds the prepared data, logs and writes its progress (SwanLab opens with the first line
of metrics, after the step that is timed). The two take turns, so that a machine whose speed drifts favours neither.
Quote the median of the ratios of the pairs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "startup.json"

BARE = """
import sys
from pathlib import Path
import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # spared a compile of a minute, as trainyard is

class FirstStep(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            Path(sys.argv[1]).write_text("done")
        control.should_training_stop = True

args = TrainingArguments(output_dir=sys.argv[2], max_steps=10, per_device_train_batch_size=4, deepspeed=sys.argv[3],
                         use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(), report_to="none",
                         disable_tqdm=True, save_strategy="no")
config = AutoConfig.for_model("llama", vocab_size=2048, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
                              num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
                              tie_word_embeddings=True)
ids = torch.randint(0, 2048, (64, 256))
rows = [{"input_ids": row, "labels": row} for row in ids]
Trainer(AutoModelForCausalLM.from_config(config), args, train_dataset=rows, callbacks=[FirstStep()]).train()
"""


def until(arguments: list[str], is_done: Callable[[], bool], env: dict[str, str]) -> float:
    """Seconds from the start of a command until `is_done`; then waits for the end of the command."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=env)
        while not is_done():
            if process.poll() not in (None, 0):
                log.seek(0)
                raise RuntimeError(f"{arguments[:3]} failed:\n{log.read().decode(errors='replace')[-3000:]}")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        process.wait()
    return seconds


def bare(folder: Path, number: int, ranks: int) -> float:
    """Seconds to the first step of the bare script."""
    script, done = folder / "bare.py", folder / f"bare-{number}"
    script.write_text(BARE)
    env = dict(os.environ, OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // ranks)))
    deepspeed = [str(Path(sys.executable).with_name("deepspeed")), "--no_local_rank", f"--num_gpus={ranks}"]
    arguments = [*deepspeed, str(script), str(done), str(folder / "bare"), str(ROOT / "ds_configs" / "zero2.json")]
    return until(arguments, done.exists, env)


def ours(folder: Path, number: int, ranks: int) -> float:
    """Seconds to the first step of trainyard."""
    run = folder / "out" / "pretrain" / f"run-{number}"
    metrics = run / "metrics.jsonl"

    def is_done() -> bool:
        return metrics.exists() and '"loss"' in metrics.read_text()

    overrides = [f"paths.outputs={folder / 'out'}", f"run.name=run-{number}", f"launch.num_devices={ranks}"]
    short = ["trainer.max_steps=1", "trainer.logging_steps=1", "trainer.eval_on_start=false"]
    batch = ["trainer.per_device_train_batch_size=4", "trainer.global_batch_size=null"]
    return until(["bash", str(ROOT / "launch" / "pretrain.sh"), *overrides, *short, *batch], is_done, dict(os.environ))


def lasting(arguments: list[str], times: int) -> float:
    """Median seconds of a whole command."""
    seconds = []
    for _ in range(max(times, 1)):
        started = time.perf_counter()
        subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="counted pairs, after one that is not counted")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, as JSON")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(arguments.pairs + 1):
            rows.append((ours(Path(name), number, arguments.ranks), bare(Path(name), number, arguments.ranks)))
            label = "warm-up" if number == 0 else f"pair {number}"
            mine, other = rows[-1]
            print(f"{label:8} trainyard {mine:6.2f} s   bare {other:6.2f} s   {mine / other:.3f}")
    rows = rows[1:]
    env_sh = lasting(["bash", "-c", f"source {ROOT}/launch/env.sh"], arguments.pairs)
    mistake = lasting(["bash", str(ROOT / "launch" / "pretrain.sh"), "trainer.lerning_rate=1"], arguments.pairs)
    print(f"env.sh with nothing to do {env_sh:.3f} s   answer to a mistake {mistake:.3f} s   (medians)")
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ranks": arguments.ranks,
        "trainyard_s": [round(row[0], 3) for row in rows],
        "bare_s": [round(row[1], 3) for row in rows],
        "env_sh_s": round(env_sh, 3),
        "mistake_s": round(mistake, 3),
        "median_ratio": round(statistics.median(a / b for a, b in rows), 3),
    }
    print(f"median ratio {result['median_ratio']}")
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
