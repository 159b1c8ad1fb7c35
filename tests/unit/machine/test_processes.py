import os
import signal
import socket
import subprocess
import sys
import time

import psutil

from trainyard.machine.processes import session

STARTS_A_CHILD = """
import signal, subprocess
from functools import partial
from trainyard.machine.processes import end_with_parent
child = subprocess.Popen(["sleep", "60"], preexec_fn=partial(end_with_parent, signal.SIGKILL))
print(child.pid, flush=True)
child.wait()
"""

FOLLOWS = """
import time
from trainyard.machine.processes import follow_controller
follow_controller()
import subprocess
print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


def ends(pid: int) -> bool:
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_process_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS_A_CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert ends(child)


def test_a_session_has_its_orphans() -> None:
    command = ["sh", "-c", "sleep 60 & echo $!; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        assert leader.stdout is not None
        orphan = int(leader.stdout.readline())
        assert {process.pid for process in session(leader.pid)} == {leader.pid, orphan}
        leader.kill()
    assert [process.pid for process in session(leader.pid)] == [orphan]
    os.kill(orphan, signal.SIGKILL)
    assert ends(orphan)


def test_a_rank_ends_with_its_controller() -> None:
    with subprocess.Popen(["sleep", "60"]) as controller:
        env = os.environ | {"TRAINYARD_CONTROLLER": f"{socket.gethostname()} {controller.pid}"}
        with subprocess.Popen([sys.executable, "-c", FOLLOWS], env=env, stdout=subprocess.PIPE, text=True) as rank:
            assert rank.stdout is not None
            child = int(rank.stdout.readline())
            controller.kill()
            controller.wait()
            assert rank.wait(timeout=30) == 1
            assert rank.stdout.read() == "the controller is gone; leaving\n"
            assert ends(child)
