import pytest

from trainyard.rundir.memory import is_out_of_memory, needs_less
from trainyard.rundir.messages import Phase


class OutOfMemoryError(RuntimeError):
    """As PyTorch calls its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: out of memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_what_libraries_say(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("no memory of it"))


def test_each_phase_that_can_run_out_has_a_setting_that_needs_less() -> None:
    phases = [value for name, value in vars(Phase).items() if name.isupper()]
    assert len(phases) > 8
    for phase in phases:
        assert needs_less(phase)
    assert needs_less(Phase.EVALUATING) == "lower trainer.per_device_eval_batch_size"
    assert "trainer.per_device_train_batch_size" in needs_less(Phase.TRAINING)
    assert "trainer.async_save=false" in needs_less(Phase.SAVING)
