"""Memory that was not enough: how an error is known to tell so, and the settings that need less."""

from trainyard.rundir.messages import Phase

_ADVICE = {
    Phase.EVALUATING: "lower trainer.per_device_eval_batch_size",
    Phase.SAVING: "set trainer.async_save=false, which needs no copy of what is saved",
    Phase.WRITING: "set trainer.async_save=false, which needs no copy of what is saved",
    Phase.ANSWERING: "lower tracking.samples or tracking.sample_tokens",
    Phase.SAVING_MODEL: "train on more ranks, or save with deepspeed=zero2, which gathers nothing",
    Phase.STARTING: "take deepspeed=zero3, which divides the weights, more ranks, or a smaller model",
}

_OF_TRAINING = (
    "lower trainer.per_device_train_batch_size (the global batch stays), or set trainer.gradient_checkpointing=true"
)


def needs_less(phase: str) -> str:
    """What to change so that a phase of a run, one of Phase, needs less memory."""
    return _ADVICE.get(phase, _OF_TRAINING)


def is_out_of_memory(error: BaseException) -> bool:
    """Does an error say that memory, of the machine or of a device, was not enough?

    PyTorch's own has a class for devices alone; on a CPU it is a RuntimeError, and in a forked process an OSError.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    said = ("can't allocate memory", "Cannot allocate memory", "out of memory")
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(each in str(error) for each in said)
