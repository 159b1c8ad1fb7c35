from trainyard.training.callbacks.speed import device_peak


def test_peaks_are_told_by_the_most_specific_name() -> None:
    assert device_peak("NVIDIA H100 PCIe") == 756e12
    assert device_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert device_peak("Quadro K620") is None
