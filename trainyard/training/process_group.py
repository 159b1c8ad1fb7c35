"""The process group through which the ranks talk."""

import os
from datetime import timedelta

import torch

from trainyard import compat


def start_process_group(timeout_s: float) -> None:
    """Joins the ranks by NCCL where there are GPUs, and by gloo elsewhere. Collective.

    Args:
        timeout_s: seconds after which an operation that some rank does not join fails; on the CPU, the Trainer would
            ignore this setting.

    Raises:
        RuntimeError: the driver shows a GPU, and this build of torch cannot use it, or the other way round.
    """
    import deepspeed

    compat.skip_shared_memory_all_reduce()
    on_gpu = torch.cuda.is_available()
    wanted = os.environ.get("TRAINYARD_DEVICE", "cuda" if on_gpu else "cpu")
    if on_gpu != (wanted == "cuda"):
        raise RuntimeError(
            f"the driver shows a device of kind {wanted}, but torch {torch.__version__} "
            f"{'sees a GPU' if on_gpu else 'cannot use it'}: install the torch build for this driver, "
            f"or hide the GPUs with CUDA_VISIBLE_DEVICES="
        )
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # DeepSpeed must do this, before TrainingArguments: ZeRO-3 asks it for the world size while the model is built.
    deepspeed.init_distributed(
        "nccl" if on_gpu else "gloo", auto_mpi_discovery=False, timeout=timedelta(seconds=timeout_s), verbose=False
    )
