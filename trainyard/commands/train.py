"""The command of a stage, from its arguments to its exit code: one run, a sweep, or an option of Hydra's.

`trainyard pretrain ...`, `python -m pretrain ...` and `bash launch/pretrain.sh ...` all end here. The rest of a run is
in trainyard/control, and of a sweep in trainyard/sweeps. The exit codes are in trainyard/errors.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig

from trainyard.config import local
from trainyard.config.compose import compose, to_config
from trainyard.config.defaults import own_defaults
from trainyard.config.hydra import CONF_DIR, register
from trainyard.config.overrides import spelled, with_implied
from trainyard.control.controller import check, run
from trainyard.control.say import refuse
from trainyard.errors import FAILED, FINISHED, STOPPED, WRONG, ConfigError, RequestError
from trainyard.files import NoLocksError
from trainyard.machine.devices import detect
from trainyard.machine.signals import StopSignals
from trainyard.sweeps import grid
from trainyard.sweeps.sweep import Sweep

MULTIRUN = ("-m", "--multirun")
RUN = ("-r", "--run")
CONFIG_DIR = ("-cd", "--config-dir")
WITH_A_VALUE = (
    "-c", "--cfg", "-p", "--package", "-i", "--info", "-cp", "--config-path", "-cn", "--config-name",
    "--experimental-rerun",
)  # fmt: skip
"""Options of Hydra's that take the word behind them."""

PRINTING = ("-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion")
"""Options of Hydra's that do not look at the settings."""


def main(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Runs a stage with the overrides of the command line, or a sweep of it, and returns the exit code.

    Options such as --help and --cfg are Hydra's own, and stand anywhere. So is -m with `hydra/launcher=basic`.

    Args:
        stop: counts the stop signals since the start of the command.
    """
    try:
        overrides, options = divide(arguments)
    except ConfigError as error:
        return refuse(error.problems)
    sweeps = any(option in MULTIRUN for option in options) or any(item.startswith("sweep=") for item in overrides)
    options = [option for option in options if option not in RUN]
    others = [option for option in options if option not in MULTIRUN]
    if sweeps and not others and not any(item.startswith("hydra/") for item in overrides):
        return sweep(stage, overrides, stop)
    if options:
        return _through_hydra(stage, overrides, options, stop)
    try:
        return run(compose(stage, overrides), with_implied(overrides), stop)
    except ConfigError as error:
        return refuse([*error.problems, *_beside(error, overrides)])


def _beside(error: ConfigError, overrides: Sequence[str]) -> list[str]:
    """What else is wrong, beside the overrides that cannot be composed."""
    try:
        return check(error.partial, with_implied(overrides), detect()).problems if error.partial else []
    except RequestError as further:
        return further.problems


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of a command line, and the options between them.

    `--config-dir DIR` becomes the override `hydra.searchpath=[file://DIR]`, so that whatever this command starts, to
    prepare data or to run a point of a sweep, reads DIR as well.

    Raises:
        ConfigError: an option lacks its value, or DIR is no directory.
    """
    overrides: list[str] = []
    options: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif name in CONFIG_DIR:
            overrides.append(_searched(value if equals else next(words, "")))
        else:
            options.append(word)
            if word in WITH_A_VALUE and (following := next(words, None)) is not None:
                options.append(following)
    return overrides, options


def _searched(folder: str) -> str:
    path = Path(folder).expanduser().absolute()
    if not folder or not path.is_dir():
        raise ConfigError([f"--config-dir {folder}: there is no such directory; name one with groups as conf/ has"])
    return f"hydra.searchpath={spelled([f'file://{path}'])}"


def sweep(stage: str, arguments: Sequence[str], stop: StopSignals) -> int:
    """Runs every point of a sweep: settings have several values on the command line, or by sweep=<file>."""
    devices = detect()
    try:
        request = grid.read(stage, arguments)
        points = Sweep(stage, request, devices, stop)
        return points.run()
    except ConfigError as error:
        return refuse(error.problems)
    except NoLocksError as error:
        return refuse([str(error)])


def _through_hydra(stage: str, overrides: Sequence[str], options: Sequence[str], stop: StopSignals) -> int:
    """Leaves the command line to @hydra.main.

    Each job of -m is a run of its own. After a failed job the next one starts; after a stop signal no further job does.
    """
    machine = local.read()
    if problems := machine.problems or list(_beyond(overrides)):
        return refuse(problems)
    if not any(option in (*PRINTING, *MULTIRUN) for option in options):
        try:
            compose(stage, overrides)  # says what is wrong in our words
        except ConfigError as error:
            return refuse(error.problems)
    register(stage)
    here = [*own_defaults(stage, overrides), *machine.overrides(overrides)]
    sys.argv[1:] = [*here, *with_implied(overrides), *options]  # argparse wants the overrides side by side
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


def _beyond(overrides: Sequence[str]) -> list[str]:
    """A message for each plugin that would run jobs where neither their exit codes nor a stop signal pass through."""
    plugins = [item for item in overrides if item.startswith(("hydra/launcher=", "hydra/sweeper="))]
    fix = "leave it out: -m runs points side by side with launch.devices_per_job, or as a job array under Slurm"
    lost = f"exit codes and stop signals of its jobs would be lost; {fix}"
    return [f"{item}: {lost}" for item in plugins if not item.endswith("=basic")]
