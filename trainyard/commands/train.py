"""The command of a stage, from its arguments to its exit code: one run, a sweep, or an option of Hydra's.

`trainyard pretrain ...`, `python -m pretrain ...` and `bash launch/pretrain.sh ...` all end here. The rest of a run is
in trainyard/control, and of a sweep in trainyard/sweeps. The exit codes are in trainyard/errors.py.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig

from trainyard.config import local
from trainyard.config.compose import compose, to_config
from trainyard.config.hydra import CONF_DIR, register
from trainyard.config.overrides import with_implied
from trainyard.control.controller import check, run
from trainyard.control.say import refuse
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, ConfigError
from trainyard.machine.devices import detect
from trainyard.machine.signals import StopSignals
from trainyard.sweeps import grid
from trainyard.sweeps.sweep import Sweep

MULTIRUN = ("-m", "--multirun")


def main(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Runs a stage with the overrides of the command line, or a sweep of it, and returns the exit code.

    Options such as --help and --cfg are Hydra's own. So is -m with a launcher or a sweeper of Hydra's (hydra/...).

    Args:
        stop: counts the stop signals since the start of the command.
    """
    sweeps = any(argument in MULTIRUN or argument.startswith("sweep=") for argument in arguments)
    if sweeps and not any(argument.startswith("hydra/") for argument in arguments):
        return sweep(stage, [argument for argument in arguments if argument not in MULTIRUN], stop)
    if any(argument.startswith("-") for argument in arguments):
        return _through_hydra(stage, arguments, stop)
    try:
        return run(compose(stage, arguments), with_implied(arguments), stop)
    except ConfigError as error:
        beside = check(error.partial, with_implied(arguments), detect()).problems if error.partial else []
        return refuse([*error.problems, *beside])


def sweep(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Runs every point of a sweep: settings have several values on the command line, or by sweep=<file>."""
    devices = detect()
    try:
        request = grid.read(stage, arguments)
        points = Sweep(stage, request, devices, stop)
    except ConfigError as error:
        return refuse(error.problems)
    return points.run()


def _through_hydra(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Leaves the command line to @hydra.main.

    Each job of -m is a run of its own. After a failed job the next one starts; after a stop signal no further job does.
    """
    machine = local.read()
    if machine.problems:
        return refuse(machine.problems)
    register(stage)
    overrides = [word for word in arguments if re.match(r"[^-].*=|~", word)]
    options = [word for word in arguments if word not in overrides]
    here = machine.overrides(overrides)
    sys.argv[1:] = [*here, *with_implied(overrides), *options]  # argparse wants them side by side
    codes: list[int] = []

    @hydra.main(config_path=str(CONF_DIR), config_name=stage, version_base="1.3")
    def job(node: Any) -> None:
        if STOPPED not in codes:
            given = [item for item in HydraConfig.get().overrides.task if item not in here]
            try:
                codes.append(run(to_config(node), given, stop))
            except ConfigError as error:
                codes.append(refuse(error.problems))

    try:
        job()
    except SystemExit as leaving:  # Hydra's own complaint about the request
        return WRONG if leaving.code else FINISHED
    return next((code for code in (STOPPED, FAILED, WRONG) if code in codes), FINISHED)
