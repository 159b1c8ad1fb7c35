"""Hydra as this project uses it: conf/ composed over the typed schema of a stage."""

import contextlib
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from trainyard import SHIPPED
from trainyard.config.overrides import key_of
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.config.training_arguments import trainer_schema
from trainyard.files import first_line

CONF_DIR = SHIPPED / "conf"

SEARCH = "hydra.searchpath"
"""Hydra's own setting with further folders of configs; --config-dir sets it."""


def compose_node(stage: str, overrides: Sequence[str]) -> Any:
    """Composes conf/<stage>.yaml with the overrides, as an OmegaConf node of the schema's types.

    Raises:
        HydraException, OmegaConfBaseException: for the first override that does not fit.
    """
    with composing(stage):
        return compose(config_name=stage, overrides=list(overrides))


@contextlib.contextmanager
def composing(stage: str) -> Iterator[None]:
    """Points Hydra's global state at conf/ for one stage. State that another use has left behind is dropped."""
    register(stage)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name=stage):
        yield


def register(stage: str) -> None:
    """Gives Hydra the schema, as <stage>_schema, and the resolvers of conf/.

    ${stdlib:} is the folder of Python's own library; ${command:} is how a user starts the stage.
    """
    ConfigStore.instance().store(name=f"{stage}_schema", node=schema(stage))
    OmegaConf.register_new_resolver("stdlib", lambda: sysconfig.get_paths()["stdlib"], replace=True)
    OmegaConf.register_new_resolver("command", lambda: " ".join(STAGES[stage].words), replace=True)


def schema(stage: str) -> Config:
    """The schema's defaults for a stage, with a field for every TrainingArguments name that a user may set."""
    return Config(stage=stage, trainer=trainer_schema()())


def groups() -> list[str]:
    """The config groups: the folders of conf/."""
    return sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir())


def group_options(group: str, overrides: Sequence[str] = ()) -> list[str]:
    """The names that `<group>=<name>` can take, also from the folders that the overrides search (--config-dir)."""
    found = re.findall(r"file://([^'\",\]]+)", " ".join(item for item in overrides if key_of(item) == SEARCH))
    return sorted({path.stem for folder in (CONF_DIR, *map(Path, found)) for path in (folder / group).glob("*.yaml")})


def is_readable(override: str) -> bool:
    """Does an override parse in Hydra's grammar?"""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def reason(error: Exception) -> str:
    """The first line of the innermost error, without the lines in which Hydra describes its own state."""
    cause: BaseException = error
    while cause.__cause__ is not None and str(cause.__cause__) not in ("", "None"):  # the parser's errors have no text
        cause = cause.__cause__
    first, _, rest = str(cause).partition("\n")
    if first.endswith("raised while composing config:") and rest:  # a file of conf/ is wrong: the cause follows
        place, key = first.partition(":")[0], re.search(r"full_key: (\S+)", rest)
        return f"{place}: {rest.partition(chr(10))[0]}" + (f", at {key[1]}" if key else "")
    return first_line(cause)
