"""trainyard.config.hydra."""

import contextlib
import sysconfig
from collections.abc import Iterator

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from trainyard import SHIPPED
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.config.training_arguments import trainer_schema

CONF_DIR = SHIPPED / "conf"


def schema(stage: str) -> Config:
    return Config(stage=stage, trainer=trainer_schema()())


def register(stage: str) -> None:
    """Makes the schema known to Hydra as <stage>_schema, and the resolvers that conf/ uses."""
    ConfigStore.instance().store(name=f"{stage}_schema", node=schema(stage))
    OmegaConf.register_new_resolver("stdlib", lambda: sysconfig.get_paths()["stdlib"], replace=True)
    OmegaConf.register_new_resolver("command", lambda: " ".join(STAGES[stage].words), replace=True)


@contextlib.contextmanager
def initialized(stage: str) -> Iterator[None]:
    register(stage)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name=stage):
        yield
