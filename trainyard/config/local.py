"""conf/local.yaml: settings of one machine, in a file that git ignores. It is optional.

    paths: {outputs: /scratch/me/outputs}
    launch: {hostfile: /etc/hostfile, grace_period_s: 50}
    tracking: {mode: offline}

The file stands between the defaults and the command line: it wins over conf/, and an override wins over it. It may not
shape a run. Settings under LOCAL_SECTIONS say where and on what a run goes on, and neither the default run.name nor the
comparison with the settings of an earlier start looks at them; any other setting belongs to a file in conf/experiment/.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainyard import SHIPPED
from trainyard.config.overrides import key_of, spelled
from trainyard.config.schema import PathsConfig
from trainyard.errors import ConfigError
from trainyard.files import first_line

LOCAL_SECTIONS = ("paths", "launch", "tracking")

HOSTFILE = "launch.hostfile"

VARIABLE = "TRAINYARD_LOCAL"
"""Environment variable that names another file than conf/local.yaml; empty: no file."""


@dataclass
class LocalSettings:
    """What the file of this machine says."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    """Its settings by their names, `launch.grace_period_s`, in the order of the file."""
    problems: list[str] = field(default_factory=list)
    """One message for everything that does not belong there."""

    def overrides(self, given: Sequence[str]) -> list[str]:
        """The settings as a command line would have them, `launch.grace_period_s=50`, to stand before `given`.

        A command with launch.node_rank is one of those on each node, as launch/slurm.sbatch starts them, and reaches
        no other node. So it goes without the hostfile of this machine.
        """
        keys = {key_of(item) for item in given if not item.endswith("=null")}
        left_out = {HOSTFILE} if "launch.node_rank" in keys else set()
        return [f"{key}={spelled(value)}" for key, value in self.values.items() if key not in left_out]


def read() -> LocalSettings:
    """The settings of this machine; no settings and no problems when there is no file."""
    named = os.environ.get(VARIABLE)
    path = Path(named).expanduser() if named else SHIPPED / "conf" / "local.yaml"
    shown = named or "conf/local.yaml"
    if named == "" or (named is None and not path.exists()):
        return LocalSettings(shown)
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        where = f":{mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        return LocalSettings(shown, problems=[f"{shown}{where}: cannot be read: {first_line(error)}"])
    if sections is not None and not isinstance(sections, dict):
        return LocalSettings(shown, problems=[f"{shown}: must hold settings, as launch: {{grace_period_s: 50}}"])
    found = LocalSettings(shown)
    for key, value in _flat(sections or {}):
        section = key.partition(".")[0]
        if section not in LOCAL_SECTIONS:
            allowed = ", ".join(f"{name}." for name in LOCAL_SECTIONS)
            fix = "put what shapes a run into a file in conf/experiment/, or on the command line"
            found.problems.append(f"{shown}: {key} is not a setting of one machine, which are {allowed}; {fix}")
        elif key == section:
            fix = f"choose an option of the group by {key}={value} on the command line" if value else "remove the line"
            found.problems.append(f"{shown}: {key} must hold settings, as {key}: {{name: value}}; {fix}")
        else:
            found.values[key] = value
    return found


def origin(key: str, given: Sequence[str]) -> str:
    """` (conf/local.yaml)` behind a setting in a message if this machine's file decides it; empty for the command."""
    machine = read()
    return f" ({machine.file})" if key in machine.values and key not in map(key_of, given) else ""


def default_outputs() -> str:
    """The value of paths.outputs for a command that gives none: this machine's, or else that of the schema.

    Raises:
        ConfigError: with everything that is wrong in the file of this machine.
    """
    machine = read()
    if machine.problems:
        raise ConfigError(machine.problems)
    return str(machine.values.get("paths.outputs") or PathsConfig().outputs)


def _flat(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with their values; `paths.outputs: x` at the top means the same as a nested mapping."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


if __name__ == "__main__":  # launch/dashboard.sh asks for the folder
    try:
        print(Path(default_outputs()).expanduser())
    except ConfigError as error:
        sys.exit("\n".join(f"error: {problem}" for problem in error.problems))
