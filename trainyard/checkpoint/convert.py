"""Converts a checkpoint, so that any number of ranks can load it under any ZeRO stage or under DDP:

python -m trainyard.checkpoint.convert CHECKPOINT TARGET [--fp16]

The target has the form of DeepSpeed's universal checkpoint: each parameter has whole weights and moments in float32,
in files of its own. DeepSpeed's own ds_to_universal makes a target that no other stage can load, and takes its size on
the disk twice.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from trainyard.checkpoint import layout
from trainyard.checkpoint.directory import step_of
from trainyard.files import read_json, staged
from trainyard.machine.processes import follow_controller

LATEST = "latest_universal"
"""The file by which DeepSpeed and we recognise a universal checkpoint; it names the directory with the states."""


SCHEDULE = "scheduler.pt"


WEIGHTS, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")


_RANK = re.compile(r"zero_pp_rank_(\d+)_")


Shapes = list[dict[str, torch.Size]]
"""For each group of the optimizer, its parameters in order, by name."""


@dataclass(frozen=True)
class Parameter:
    """A parameter as the ranks hold it."""

    name: str
    shape: torch.Size
    parts: dict[str, list[Tensor]]
    """By state, WEIGHTS and MOMENTS: the flat parts of all ranks, which make the whole in this order."""


@dataclass(frozen=True)
class States:
    """The states of a checkpoint in one form for all stages. Tensors stay on the disk until they are used."""

    parameters: Iterator[Parameter]
    updates: float
    """Steps that the optimizer has taken, by which Adam corrects the bias of its moments."""
    learning_rate: float
    """Of the next step."""
    model: dict[str, Any]
    """All else that DeepSpeed keeps: step counters, buffers, a schedule of its own. Empty under DDP."""
    loss_scale: dict[str, Any]
    """The state of fp16's loss scale; empty under another precision."""


def convert(source: Path, target: Path, *, fp16: bool) -> None:
    """Writes `target` in one step. Files that need no change are links to those of `source`.

    Args:
        fp16: the ranks that will load the target compute in fp16, and go on with the loss scale of the source.

    Raises:
        ValueError: the states are not Adam's, or the checkpoint does not name its parameters.
    """
    with staged(target) as staging:
        folder = staging / f"global_step{step_of(source)}"
        folder.mkdir()
        latest = source / "latest"
        states = _of_zero(source / latest.read_text().strip()) if latest.is_file() else _of_ddp(source)
        names = [_write(parameter, states.updates, folder / "zero") for parameter in states.parameters]
        _write_common(states, len(names), folder, fp16=fp16)
        for file in (file for file in source.iterdir() if file.is_file()):
            if file.name not in ("latest", "optimizer.pt", SCHEDULE):
                (staging / file.name).symlink_to(file.absolute())
        _write_schedule(source, staging, folder, states.model)
        (staging / LATEST).write_text(folder.name)


def _of_zero(folder: Path) -> States:
    files = {int(_RANK.findall(file.name)[0]): file for file in folder.glob("*_optim_states.pt")}
    ranks = [_load(files[rank])["optimizer_state_dict"] for rank in range(len(files))]
    model = _load(sorted(folder.glob("*_model_states.pt"))[0])
    shapes: Shapes = model["param_shapes"]
    base = ranks[0]["optimizer_state_dict" if ranks[0]["zero_stage"] == 3 else "base_optimizer_state"]
    parameters = _of_zero_3(ranks, shapes) if ranks[0]["zero_stage"] == 3 else _of_zero_1_and_2(ranks, shapes)
    scale = {key: ranks[0][key] for key in ("loss_scaler", "dynamic_loss_scale")}
    return States(parameters, *_progress(base), model, scale if scale["dynamic_loss_scale"] else {})


def _of_zero_1_and_2(ranks: list[dict[str, Any]], shapes: Shapes) -> Iterator[Parameter]:
    """A group is one vector, cut into equal pieces, one a rank; a mapping says which part of a piece is a parameter's.

    group    [ a a a | a b b | b b c | c c - ]        for 4 ranks; rank 1 holds the end of a and the start of b
    """
    for number, group in enumerate(shapes):
        for name, shape in group.items():
            parts: dict[str, list[Tensor]] = {WEIGHTS: [], **{key: [] for key in MOMENTS}}
            for rank in ranks:
                place = rank["param_slice_mappings"][number].get(name)
                if place is None:
                    continue
                vectors = {WEIGHTS: rank["single_partition_of_fp32_groups"][number]}
                vectors |= _moments(rank["base_optimizer_state"]["state"][number])
                for key, vector in vectors.items():
                    parts[key].append(vector.narrow(0, place.start, place.numel))
            yield Parameter(name, shape, parts)


def _of_zero_3(ranks: list[dict[str, Any]], shapes: Shapes) -> Iterator[Parameter]:
    """Every parameter is cut into equal pieces, the last one padded; a rank's vector holds its pieces in order.

    rank 0   [ a a | b b ... ]        a has 3 values, b has 4, for 2 ranks
    rank 1   [ a - | b b ... ]
    """
    for number, group in enumerate(shapes):
        offset = 0
        for name, shape in group.items():
            piece = -(-shape.numel() // len(ranks))
            parts: dict[str, list[Tensor]] = {WEIGHTS: [], **{key: [] for key in MOMENTS}}
            for index, rank in enumerate(ranks):
                held = max(0, min(piece, shape.numel() - index * piece))
                vectors = {WEIGHTS: rank["fp32_flat_groups"][number]}
                vectors |= _moments(rank["optimizer_state_dict"]["state"][number])
                for key, vector in vectors.items():
                    parts[key].append(vector.narrow(0, offset, held))
            offset += piece
            yield Parameter(name, shape, parts)


def _of_ddp(source: Path) -> States:
    names = read_json(source / layout.PARAMETERS).get("names")
    if not names:
        raise ValueError(f"{source.name} has no {layout.PARAMETERS}: its optimizer's states cannot be told apart")
    if not (optimizer := _load(source / "optimizer.pt"))["state"]:
        raise ValueError(f"the optimizer in {source.name} has no state")
    weights = _weights(source)

    def parameters() -> Iterator[Parameter]:
        for number, name in enumerate(names):
            weight = weights(name)
            nothing = dict.fromkeys(MOMENTS, torch.zeros_like(weight))  # of a weight that never had a gradient
            moments = {key: [moment] for key, moment in _moments(optimizer["state"].get(number, nothing)).items()}
            yield Parameter(name, weight.shape, {WEIGHTS: [weight], **moments})

    return States(parameters(), *_progress(optimizer), {}, {})


def _weights(source: Path) -> Callable[[str], Tensor]:
    """A function that reads the weights of a parameter, given its name."""
    files = [safe_open(file, framework="pt") for file in sorted(source.glob("*.safetensors"))]
    places = {name: file for file in files for name in file.keys()}  # noqa: SIM118

    def read(name: str) -> Tensor:
        if (saved := layout.saved_as(name, places)) is None:
            raise ValueError(f"{source.name} has no {name}: transformers saves this architecture under other names")
        weight: Tensor = places[saved].get_tensor(saved)
        return weight

    return read


def _moments(state: dict[str, Any]) -> dict[str, Tensor]:
    if missing := [key for key in MOMENTS if key not in state]:
        raise ValueError(f"the optimizer has no {missing[0]}: only the states of Adam can be converted")
    return {key: state[key] for key in MOMENTS}


def _progress(optimizer: dict[str, Any]) -> tuple[float, float]:
    """Steps taken, and the learning rate of the next one."""
    return float(next(iter(optimizer["state"].values()))["step"]), float(optimizer["param_groups"][0]["lr"])


def _write(parameter: Parameter, updates: float, folder: Path) -> str:
    """Makes a directory with a file for each state, as DeepSpeed reads it; one state at a time is whole in memory."""
    place = folder / parameter.name
    place.mkdir(parents=True)
    for key, parts in parameter.parts.items():
        whole = torch.cat([part.reshape(-1).float() for part in parts]).reshape(parameter.shape)
        torch.save({"param": whole}, place / f"{key}.pt")
    torch.save(torch.tensor(updates), place / "step.pt")
    return parameter.name


def _write_common(states: States, parameters: int, folder: Path, *, fp16: bool) -> None:
    """Writes the optimizer's common state to where each stage looks for it.

    Of the groups' settings it has the learning rate only: the others are the command's, see apply_settings in
    trainyard.checkpoint.restore. ZeRO-1 and 2 load one group for each entry; no run has more groups than parameters.
    """
    import deepspeed

    common = {
        "ds_version": deepspeed.__version__,
        "param_groups": [{"lr": states.learning_rate} for _ in range(parameters)],
        "optimizer_state_dict": {
            "state": {0: {"step": torch.tensor(states.updates)}},
            "param_groups": [{"lr": states.learning_rate, "params": []}],
        },
    }
    torch.save(common | (states.loss_scale if fp16 else {}), folder / "zero" / "optimizer_state.pt")


def _write_schedule(source: Path, staging: Path, folder: Path, model: dict[str, Any]) -> None:
    """Writes the schedule to both places: scheduler.pt, for the Trainer, and the model states, for DeepSpeed.

    The model states also have the model's buffers and DeepSpeed's counters.
    """
    file = source / SCHEDULE
    schedule = torch.load(file, weights_only=True) if file.is_file() else model["lr_scheduler"]
    if "lr_lambdas" in schedule:
        schedule["lr_lambdas"] = []  # None for each group of the old optimizer: functions have no state
    torch.save(schedule, staging / SCHEDULE)
    known: dict[str, Any] = {
        "global_steps": step_of(source),
        "skipped_steps": 0,
        "dp_world_size": 1,
        "mp_world_size": 1,
    }
    known |= {key: model[key] for key in known if key in model}
    buffers = {name: model["module"][name] for name in model.get("buffer_names") or ()}
    known |= {"module": buffers, "lr_scheduler": schedule}
    for stage in ("", "zero_pp_rank_0_"):  # of ZeRO-1 and 2, and of ZeRO-3
        torch.save(known, folder / f"{stage}mp_rank_00_model_states.pt")


def _load(file: Path) -> dict[str, Any]:
    """A file of a verified checkpoint, its tensors mapped into memory."""
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
    return loaded


def main() -> None:
    """The command of this module; ends with the controller that started it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--fp16", action="store_true")
    arguments = parser.parse_args()
    follow_controller()
    convert(arguments.checkpoint, arguments.target, fp16=arguments.fp16)


if __name__ == "__main__":
    main()
