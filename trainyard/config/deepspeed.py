"""DeepSpeed's JSON files, ours in ds_configs/ or a user's: found, read, and completed for a launch.

deepspeed_rules.py says what is wrong with one, by the keys of deepspeed_keys.py.
"""

import json
import re
from pathlib import Path
from typing import Any

from trainyard import SHIPPED

DS_CONFIGS = SHIPPED / "ds_configs"


def find(config: str) -> Path:
    """The file behind deepspeed.config: `zero2` is ds_configs/zero2.json, any other value is a path."""
    named = DS_CONFIGS / f"{config}.json"
    return named if named.is_file() else Path(config).expanduser()


def read(config: str) -> dict[str, Any]:
    """The JSON object behind deepspeed.config.

    Raises:
        ValueError: the file is missing, is not JSON, or holds no object.
    """
    path = find(config)
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a mark before the text
        values = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_not_finite)
    except OSError as error:
        names = ", ".join(sorted(file.stem for file in DS_CONFIGS.glob("*.json")))
        raise ValueError(f"{path}: {error.strerror}. Give the path of a DeepSpeed JSON, or one of {names}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not valid JSON: {_what_stands(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a DeepSpeed config is a JSON object, this is a {type(values).__name__}")
    return values


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file, in which no key stands twice: a reader takes either of them."""
    names = [key for key, _ in pairs]
    if twins := sorted({key for key in names if names.count(key) > 1}):
        raise ValueError(f"{', '.join(twins)} stands twice in one object; leave one out")
    return dict(pairs)


def _not_finite(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON; give a finite one")


def _what_stands(error: json.JSONDecodeError) -> str:
    """What the parser met at a place where it expected something else, in words."""
    rest, before = error.doc[error.pos :].lstrip(), error.doc[: error.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return "a comment; JSON has none, so take it out"
    if (rest[:1] in ("}", "]") and before.endswith(",")) or (rest[:1] == "," and rest[1:].lstrip()[:1] in ("}", "]")):
        return "a comma before the closing bracket; take it out"
    if rest.startswith("'"):
        return "a text in single quotes; JSON has double ones"
    if word := re.match(r"True|False|None", rest):
        return f"{word[0]}; JSON writes {word[0].lower() if word[0] != 'None' else 'null'}"
    return f"{error.msg} in column {error.colno}"


def stage(values: dict[str, Any]) -> int:
    """The ZeRO stage: 1, 2 or 3."""
    return int(values["zero_optimization"]["stage"])


def offloads(values: dict[str, Any]) -> bool:
    """Are optimizer states or parameters kept in host memory or on disk?"""
    parts = (values["zero_optimization"].get(part, {}) for part in ("offload_optimizer", "offload_param"))
    return any(part.get("device", "none") != "none" for part in parts)


def complete(values: dict[str, Any], *, on_gpu: bool) -> dict[str, Any]:
    """A copy that is ready to train: the Trainer fills in its batch keys, and Adam on a CPU is torch's.

    DeepSpeed's own CPU Adam is compiled at the first launch; torch's gives the same result.
    """
    result = json.loads(json.dumps(values))
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        result.setdefault(key, "auto")
    result.setdefault("gradient_clipping", "auto")
    if not on_gpu and str(result.get("optimizer", {}).get("type", "")).lower() in ("adam", "adamw", "muon"):
        params = result["optimizer"].setdefault("params", {})
        params["torch_adam"] = True
        if params.get("bias_correction") is True:  # torch's always corrects, and takes no such argument
            del params["bias_correction"]
    zero, gather = result["zero_optimization"], "stage3_gather_16bit_weights_on_model_save"
    if stage(result) == 3 and zero.get(gather, "auto") == "auto":  # else a checkpoint has the weights in shards only
        zero[gather] = True
    return result
