import subprocess
import sys
from pathlib import Path

from trainyard.machine import installed


def test_a_package_is_found_without_its_import() -> None:
    code = "import sys; from trainyard.machine import installed; print(installed.folder('transformers'))"
    code += "; print('transformers' in sys.modules)"
    found, imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (Path(found) / "optimization.py").is_file() and imported == "False"


def test_a_package_that_is_not_there_has_no_folder() -> None:
    assert installed.folder("no_such_package") is None
