"""Every patch of a library, a function each: the library and its version, the reason, and when the patch can go.

For each there is a test in tests/unit/test_compat.py that fails when the installed version does not need it any more.
A library is imported by the function that patches it. No other file replaces what belongs to a library; a few set a
private attribute of an object that is their own, and say why at that place.
"""

from typing import Any


def skip_shared_memory_all_reduce() -> None:
    """DeepSpeed 0.19 compiles a kernel for inference at the first launch on a CPU; afterwards it does not.

    `build_shm_op` in deepspeed/comm/torch.py compiles whatever __compatible_ops__ lists, for a minute, when the process
    group starts. Training never calls the kernel, and a process killed meanwhile leaves a lock that every later run
    waits for. Can go when DeepSpeed builds the kernel at its first use, or has a setting against it.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def expect_universal_checkpoint(engine: Any, expected: bool) -> None:
    """DeepSpeed 0.19 reads from its config alone whether the checkpoint that it loads next is a universal one.

    A run loads several: the one that it resumes from, and at its end the best. `load_checkpoint` of
    deepspeed/runtime/engine.py has no parameter for it. Can go when it has one, or looks at the files.
    """
    engine._config.load_universal_checkpoint = expected


def collect_token_rows_on_any_device() -> None:
    """peft 0.21 asks for a CUDA device to read the rows of added tokens under ZeRO-3, which a CPU rank does not have.

    `TrainableTokensLayer._collect_token_weights` reads them on one rank and broadcasts them; every rank has gathered
    the whole table at that point, and can read them itself. Can go when peft takes the device of the weight.
    """
    import torch
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
    from peft.utils.integrations import gather_params_ctx

    def collect(self: Any, weight: torch.nn.Parameter, rows: list[int], embed_dim: int) -> Any:
        with gather_params_ctx([weight], modifier_rank=None):
            return weight[rows].detach().clone()

    TrainableTokensLayer._collect_token_weights = collect  # type: ignore[method-assign, assignment]


def announce_token_rows(model: Any) -> None:
    """peft 0.21 does not tell ZeRO-3 what its layers of added tokens use, which ZeRO-3 then leaves divided.

    The rows and the table lie in modules that are never called, and ZeRO-3 gathers what a module that is called holds,
    or what is registered for it. Can go when peft registers these parameters, or calls those modules.
    """
    import deepspeed
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    for layer in model.modules():
        if isinstance(layer, TrainableTokensLayer):
            for parameter in (*layer.trainable_tokens_delta.values(), layer.base_layer.weight):
                deepspeed.zero.register_external_parameter(layer, parameter)


def save_legacy(tokenizer: Any) -> None:
    """transformers 5.23 does not save `legacy` of a tokenizer of Llama, which then encodes otherwise once it is loaded.

    Only what is in init_kwargs is saved, and `LlamaTokenizer.__init__` does not hand `legacy` on. Can go when a saved
    and loaded tokenizer has it.
    """
    if hasattr(tokenizer, "legacy"):
        tokenizer.init_kwargs["legacy"] = tokenizer.legacy


def draw_charts_in_sections() -> None:
    """swanlab 0.10 draws every chart of its local dashboard in one section; afterwards `train/loss` is in `train`.

    `_ColumnInfo` of swanlab/deprecated/local.py names the section "default" for all. Can go when SwanLab takes the
    section from the key in local mode, as it does in its cloud.
    """
    from swanlab.deprecated import local

    class Column(local._ColumnInfo):
        def __init__(self, key: str, kid: str, chart_type: object):
            super().__init__(key, kid, chart_type)
            self.section_name, self.section_sort = key.partition("/")[0], None  # None: behind the others

    local._ColumnInfo = Column
