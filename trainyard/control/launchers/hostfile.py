"""The hostfile: the nodes of a run, a line each, as `node-a slots=8`."""

import re
from pathlib import Path

_HOST = re.compile(r"^\s*(\S+)\s+slots\s*=\s*(\d+)\s*(#.*)?$")


def read_hostfile(path: str | None) -> dict[str, int]:
    """Host name to slots, in the file's order. Lines that start with # are comments.

    Empty when there is no file or a line does not parse: the checks of the request name that mistake.
    """
    if path is None:
        return {}
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    matches = [_HOST.match(line) for line in lines]
    return {match[1]: int(match[2]) for match in matches if match} if all(matches) else {}
