"""Every way to start ranks gives back a Launch."""

import inspect
import subprocess
from pathlib import Path

import pytest

from trainyard.control.launchers.launch import Launch
from trainyard.control.launchers.local import LocalLaunch
from trainyard.control.launchers.ssh import SshLaunch


def test_a_local_launch_is_a_launch_too(tmp_path: Path) -> None:
    launch: Launch = LocalLaunch(subprocess.Popen(["sleep", "60"], start_new_session=True))
    assert (launch.code, launch.failed, list(launch.lost)) == (None, False, [])
    launch.end()
    launch.end()
    assert launch.code == -9


@pytest.mark.parametrize("kind", [LocalLaunch, SshLaunch])
def test_a_launch_offers_what_an_attempt_asks_for(kind: type) -> None:
    wanted = {name for name in vars(Launch) if not name.startswith("_")}
    assert wanted == {"code", "failed", "lost", "own_processes", "end"}
    assert wanted <= set(dir(kind)) | set(inspect.signature(kind).parameters)
