import subprocess

import pytest

from trainyard import ROOT
from trainyard.machine import checkout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout of git")
def test_the_commit_of_the_code_that_runs() -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    commit = checkout.commit()
    assert commit is not None and commit.removesuffix("+changes") == head.stdout.strip()
