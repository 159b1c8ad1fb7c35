"""A checkpoint of other ranks, or of another ZeRO stage, made fit for the launch that is to come."""

import shutil
from pathlib import Path

from trainyard.checkpoint.directory import lack_of_space, no_space
from trainyard.checkpoint.manifest import Manifest
from trainyard.checks import resume
from trainyard.config.schema import Config
from trainyard.control import report
from trainyard.control.helper import run_helper
from trainyard.control.say import say
from trainyard.errors import FAILED, STOPPED, Ended
from trainyard.machine.processes import python
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir


def loadable(start: Path, config: Config, run_dir: RunDir, env: dict[str, str], stop: StopSignals) -> Path:
    """A checkpoint as this config's ranks can load it: itself, or a copy in the run's directory of conversions.

    Raises:
        Ended: there is no room for the copy, the conversion failed, or the run was stopped meanwhile.
    """
    manifest = Manifest.read(start)
    assert manifest is not None  # it was verified
    if resume.fits(config, manifest):
        return start
    say(f"{start.name}: written by {manifest.writers}; converting it for {resume.described(config)}")
    target = run_dir.converted / start.name
    for parent in (target.parent, run_dir.checkpoints):  # a run begun from another's checkpoint has none yet
        parent.mkdir(exist_ok=True)
    what = f"the conversion of {start.name}"
    if problem := lack_of_space(run_dir.checkpoints, manifest.state_bytes(), what):
        raise Ended(FAILED, problem)
    log = run_dir.logs / "conversion.log"
    with log.open("w", encoding="utf-8") as stream:
        command = python("trainyard.checkpoint.convert", str(start), str(target))
        command += ["--fp16"] if config.trainer.fp16 and config.deepspeed.config else []
        outcome = run_helper(command, env, stop, errors=stream)
    if stop.count:
        raise Ended(STOPPED, f"{stop.name} during the conversion; {report.again(config)}")
    if outcome.code:
        if report.is_full(run_dir.path):
            raise Ended(FAILED, no_space(run_dir.checkpoints))
        way_on = f"Go on with {manifest.writers}, or start over with run.resume=never"
        raise Ended(FAILED, f"the conversion of {start.name} failed: {report.last_line(log)}. {way_on}")
    return target


def discard(run_dir: RunDir) -> None:
    """Deletes the run's conversions, those of a controller that was killed included."""
    shutil.rmtree(run_dir.converted, ignore_errors=True)
