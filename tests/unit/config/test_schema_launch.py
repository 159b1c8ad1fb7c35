"""The settings of devices and of sweeps."""

import pytest
from conftest import ROOT

from trainyard.config.compose import compose
from trainyard.config.schema_launch import LaunchConfig, SweepConfig
from unit.fields import undescribed


def test_every_setting_has_a_docstring() -> None:
    count, without = undescribed(ROOT / "trainyard" / "config" / "schema_launch.py")
    assert without == [] and count > 17


@pytest.mark.parametrize(("devices", "nodes", "ranks"), [(None, 1, 1), (8, 1, 8), (4, 3, 12)])
def test_ranks_are_those_of_all_nodes(devices: int | None, nodes: int, ranks: int) -> None:
    assert LaunchConfig(num_devices=devices, num_nodes=nodes).ranks == ranks


def test_a_command_without_overrides_has_the_schema_s_values() -> None:
    config = compose("pretrain", [])
    assert (config.launch, config.sweep) == (LaunchConfig(), SweepConfig())
