"""One run: checks the request, and hands it to the supervisor, or on a further node to a follower."""

from collections.abc import Sequence
from typing import NamedTuple

from trainyard.checks import request as checks
from trainyard.checks import resume
from trainyard.checks.filled_in import FilledIn, lines
from trainyard.checks.resolve import name, resolve
from trainyard.config.schema import Config
from trainyard.control import report
from trainyard.control.follower import Follower
from trainyard.control.launchers import hostfile
from trainyard.control.say import refuse, say
from trainyard.control.supervisor import Supervisor
from trainyard.errors import FAILED, FINISHED, WRONG, RequestError
from trainyard.files import NoLocksError, disk_is_full
from trainyard.machine.devices import Devices, detect
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir, run_path
from trainyard.rundir.status import Status


class Checked(NamedTuple):
    """A request after its checks."""

    run_dir: RunDir
    problems: list[str]
    """Everything that is wrong with it; empty when it can be started."""
    filled_in: list[FilledIn]
    """The values that the user did not give."""


def check(config: Config, overrides: Sequence[str], devices: Devices) -> Checked:
    """Resolves a config in place and checks it."""
    hosts = hostfile.read_hostfile(config.launch.hostfile)
    named = name(config, overrides)
    run_dir = RunDir(run_path(config))
    kept = {each.key: each for each in resume.keep(config, overrides, run_dir)}
    filled_in = [*named, *resolve(config, overrides, devices, hosts)]
    filled_in = [kept.pop(each.key, each) for each in filled_in] + list(kept.values())
    problems = checks.problems(config, devices, run_dir, hosts=len(hosts))
    return Checked(run_dir, problems or resume.problems(config, run_dir), filled_in)


def run(config: Config, overrides: Sequence[str], stop: StopSignals) -> int:
    """Checks a composed config, prepares its data and trains.

    Returns:
        The exit code, see trainyard.errors. A run that is finished already is reported, and not started.
    """
    devices = detect()
    try:
        run_dir, problems, filled_in = check(config, overrides, devices)
    except RequestError as error:
        return refuse(error.problems)
    except NoLocksError as error:
        return refuse([str(error)])
    if problems:
        return refuse(problems)
    if config.launch.node_rank:
        return Follower(config, devices, run_dir, stop).run()
    if resume.is_finished(config, run_dir):
        print(report.finished(config, run_dir, Status.read(run_dir)))
        return FINISHED
    try:
        mine = run_dir.acquire()
    except OSError as error:
        say(f"error: {report.trouble(run_dir, error)}", wrong=True)
        return FAILED if disk_is_full(error) else WRONG
    if not mine:
        return refuse([f"run.name={config.run.name}: the run is alive, {run_dir.holder()}"])
    for line in lines(filled_in):
        say(line)
    return Supervisor(config, overrides, devices, run_dir, stop).run()
