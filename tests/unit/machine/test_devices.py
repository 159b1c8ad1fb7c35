from trainyard.machine.devices import visible


def test_visible_gpus_are_read_as_cuda_reads_them() -> None:
    uuids = ["GPU-aa", "GPU-bb", "GPU-cc", "GPU-dd"]
    assert visible(None, uuids) == [0, 1, 2, 3]
    assert visible("2,3", uuids) == [2, 3]
    assert visible("GPU-b,0", uuids) == [1, 0]
    assert visible("1,9,2", uuids) == [1]
    assert visible("", uuids) == visible("-1", uuids) == []
