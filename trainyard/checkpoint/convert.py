"""Makes of a checkpoint one that any number of ranks can load under any ZeRO stage, or none:

python -m trainyard.checkpoint.convert CHECKPOINT TARGET [--fp16]

It is DeepSpeed's universal checkpoint: the weights and the moments of each parameter whole, in float32, in files of
their own. DeepSpeed's ds_to_universal makes one that no other stage can load, and takes its room on the disk twice.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from trainyard.checkpoint import directory, layout
from trainyard.files import read_json
from trainyard.machine.processes import follow_controller

LATEST = "latest_universal"
"""The file by which DeepSpeed, and we, know a universal checkpoint; it names the directory with the states."""


SCHEDULE = "scheduler.pt"


WEIGHTS, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")


_RANK = re.compile(r"zero_pp_rank_(\d+)_")


Shapes = list[dict[str, torch.Size]]
"""For each group of the optimizer, its parameters in order, by name."""


@dataclass(frozen=True)
class Parameter:
    """A parameter's states by name, each in the parts that the ranks hold, in order; to be joined."""

    name: str
    shape: torch.Size
    parts: dict[str, list[Tensor]]


@dataclass(frozen=True)
class States:
    """What the files of a checkpoint say, whoever wrote them; the tensors stay on the disk until they are asked for."""

    parameters: Iterator[Parameter]
    updates: float
    """Steps that the optimizer has made, by which Adam corrects its moments."""
    learning_rate: float
    """Of its next step."""
    model: dict[str, Any]
    """What DeepSpeed keeps beside the states."""
    loss_scale: dict[str, Any]
    """Of fp16; empty under another precision."""


def convert(source: Path, target: Path, *, fp16: bool) -> None:
    """Writes `target`, which is there once it is whole. The files it shares with `source` are links to them.

    Args:
        fp16: the ranks that will load it compute in fp16, and go on with its loss scale if it has one.

    Raises:
        ValueError: the states are not those of Adam, or the checkpoint does not name its parameters.
    """
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    folder = staging / f"global_step{directory.step_of(source)}"
    folder.mkdir(parents=True)
    latest = source / "latest"
    states = _of_zero(source / latest.read_text().strip()) if latest.is_file() else _of_ddp(source)
    names = [_write(parameter, states.updates, folder / "zero") for parameter in states.parameters]
    _write_common(states, len(names), folder, fp16=fp16)
    for file in (file for file in source.iterdir() if file.is_file()):
        if file.name not in ("latest", "optimizer.pt", SCHEDULE):
            (staging / file.name).symlink_to(file.absolute())
    _write_schedule(source, staging, folder, states.model)
    (staging / LATEST).write_text(folder.name)
    staging.rename(target)


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
    """A group is one vector, cut into a piece for each rank wherever that may be; a mapping tells what lies where."""
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
    """Every parameter is cut into equal pieces, the last one filled up; a rank's vector has its pieces in order."""
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
            nothing = dict.fromkeys(MOMENTS, torch.zeros_like(weight))  # it has never had a gradient
            moments = {key: [moment] for key, moment in _moments(optimizer["state"].get(number, nothing)).items()}
            yield Parameter(name, weight.shape, {WEIGHTS: [weight], **moments})

    return States(parameters(), *_progress(optimizer), {}, {})


def _weights(source: Path) -> Callable[[str], Tensor]:
    """A parameter's weights by its name."""
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
    """Updates and learning rate."""
    return float(next(iter(optimizer["state"].values()))["step"]), float(optimizer["param_groups"][0]["lr"])


def _write(parameter: Parameter, updates: float, folder: Path) -> str:
    """One directory, a file for each state, as DeepSpeed reads it. One whole parameter is in memory at a time."""
    place = folder / parameter.name
    place.mkdir(parents=True)
    for key, parts in parameter.parts.items():
        whole = torch.cat([part.reshape(-1).float() for part in parts]).reshape(parameter.shape)
        torch.save({"param": whole}, place / f"{key}.pt")
    torch.save(torch.tensor(updates), place / "step.pt")
    return parameter.name


def _write_common(states: States, parameters: int, folder: Path, *, fp16: bool) -> None:
    """What belongs to no parameter, where the stages look for it.

    Of the groups' settings only the learning rate is there: the others are the command's own, see apply_settings in
    trainyard.checkpoint.restore. ZeRO-1 and 2 load as many groups as they find here; there are no more than parameters.
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
    """The schedule is in scheduler.pt when it is the Trainer's, among the states when it is DeepSpeed's; here in both.

    Beside it lie the model's buffers and the few other things that DeepSpeed wants to know.
    """
    file = source / SCHEDULE
    schedule = torch.load(file, weights_only=True) if file.is_file() else model["lr_scheduler"]
    if "lr_lambdas" in schedule:
        schedule["lr_lambdas"] = []  # one for each group of the optimizer that was; they are functions, without a state
    torch.save(schedule, staging / SCHEDULE)
    known: dict[str, Any] = {
        "global_steps": directory.step_of(source),
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
    """A file of a checkpoint that was verified, its tensors mapped into memory."""
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--fp16", action="store_true")
    arguments = parser.parse_args()
    follow_controller()
    convert(arguments.checkpoint, arguments.target, fp16=arguments.fp16)


if __name__ == "__main__":
    main()
