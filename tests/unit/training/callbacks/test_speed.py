"""The peak of a device by its name."""

import pytest

from trainyard.training.callbacks.speed import PEAK_FLOPS, device_peak


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
    ],
)
def test_the_longest_entry_within_a_name_counts(name: str, entry: str) -> None:
    assert device_peak(name) == PEAK_FLOPS[entry]


def test_an_unknown_device_has_no_peak() -> None:
    assert device_peak("Radeon") is None
