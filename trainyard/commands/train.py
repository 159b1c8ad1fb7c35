"""One run from command to exit code: compose -> check -> prepare -> launch -> supervise. Imports no torch.

Exit codes: 0 finished; 2 the request is wrong, nothing was started or written over; 75 stopped by a signal, the same
command resumes; 1 anything else, with the error of the rank that failed first on the last line.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

from trainyard.config.compose import compose
from trainyard.config.overrides import with_implied
from trainyard.control.controller import check, run
from trainyard.control.say import refuse
from trainyard.control.supervisor import FAILED, FINISHED, STOPPED, WRONG
from trainyard.errors import ConfigError
from trainyard.machine.devices import detect
from trainyard.machine.signals import StopSignals
from trainyard.sweeps import grid
from trainyard.sweeps.sweep import Sweep

MULTIRUN = ("-m", "--multirun")


def main(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Runs one stage with the command line's overrides, or a sweep of it; options such as --help are Hydra's own."""
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
    """A run for every combination of the values that settings are given."""
    devices = detect()
    try:
        request = grid.read(stage, arguments)
        points = Sweep(stage, request, devices, stop)
    except ConfigError as error:
        return refuse(error.problems)
    return points.run()


def _through_hydra(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """--help, --cfg job, --info and the rest, as @hydra.main gives them, and -m with a launcher or sweeper of Hydra's.

    Each job of -m is a run of its own. A stop signal ends it with the job that it stopped; a failed job does not.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from trainyard.config import compose as config_compose
    from trainyard.config import hydra as config_hydra
    from trainyard.config import local

    machine = local.read()
    if machine.problems:
        return refuse(machine.problems)
    config_hydra.register(stage)
    overrides = [word for word in arguments if re.match(r"[^-].*=|~", word)]
    options = [word for word in arguments if word not in overrides]
    sys.argv[1:] = [*machine.overrides, *with_implied(overrides), *options]  # argparse wants them side by side
    codes: list[int] = []

    @hydra.main(config_path=str(config_hydra.CONF_DIR), config_name=stage, version_base="1.3")
    def job(node: Any) -> None:
        if STOPPED not in codes:
            given = [item for item in HydraConfig.get().overrides.task if item not in machine.overrides]
            codes.append(run(config_compose.to_config(node), given, stop))

    try:
        job()
    except SystemExit as leaving:  # Hydra's own complaint about the request
        return WRONG if leaving.code else FINISHED
    return next((code for code in (STOPPED, FAILED, WRONG) if code in codes), FINISHED)
