"""Merges a LoRA adapter into its base model and saves both as one model directory, with tokenizer and chat template,
for from_pretrained and whatever serves models. Its logits are those of the adapted model.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from trainyard.errors import DataError
from trainyard.files import staged

TOLERANCE = 1e-3
"""Largest change of a logit in float32, as a share of the largest logit. Merging only changes the order of sums."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the directory of a run with an adapter, of the adapter itself, or a hub id")
    parser.add_argument("target", help="the directory to make")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the weights that are saved (default float32; the others round the logits)",
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")


def run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.target).expanduser().absolute()
    _check_target(target)
    # Heavy imports, once the target is known to be free.
    import torch

    from trainyard.inference import generate, load
    from trainyard.model import generation

    place = load.locate(arguments.source)
    if not load.has_adapter(place):
        raise DataError(
            f"{arguments.source}: holds no adapter; export merges one into its base model. "
            f"A whole model needs no export: use {place} as it is"
        )
    model, tokenizer, variables = load.load(
        place, dtype=torch.float32, device="cpu", trust_remote_code=arguments.trust_remote_code
    )
    merged, difference = merge(model)
    generate.stop_at(merged, generate.end_ids(tokenizer, variables, merged))
    for note in generation.mend(merged.generation_config):
        print(note, file=sys.stderr)
    try:
        with staged(target) as staging:
            merged.to(getattr(torch, arguments.dtype)).save_pretrained(staging)
            tokenizer.save_pretrained(staging)
    except OSError as error:
        raise DataError(f"{target}: it cannot be written: {error}") from error
    print(f"{target}: {arguments.dtype}; before rounding, logits differ by {difference:.1e} of their largest at most")
    if variables:
        print(f"not part of it are the run's data.template_variables={variables}; give them anew", file=sys.stderr)
    return 0


def merge(model: Any) -> tuple[Any, float]:
    """The base model with the adapter in its weights, and the largest change of a logit, as a share of the largest one.

    Raises:
        DataError: the adapter cannot be merged, or merging changes the logits by more than TOLERANCE.
    """
    import torch

    ids = torch.arange(16).unsqueeze(0) * 31 % model.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        before = model(ids).logits
        try:
            merged = model.merge_and_unload(safe_merge=True)
        except (ValueError, AttributeError, NotImplementedError) as error:
            raise DataError(f"the adapter cannot be merged: {error}. Serve it beside its base model") from error
        after = merged(ids).logits
    difference = float((before - after).abs().max() / before.abs().max().clamp(min=1e-9))
    if not difference <= TOLERANCE:
        raise DataError(
            f"merging changed the logits by {difference:.1e} of their largest, more than {TOLERANCE:g}; "
            f"nothing was saved. Serve the adapter beside its base model"
        )
    return merged, difference


def _check_target(target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        raise DataError(f"{target}: it is not empty, and nothing is overwritten; give a new directory")
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: it is a file; give a new directory")
