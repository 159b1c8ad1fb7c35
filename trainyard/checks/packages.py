"""Optional packages and devices behind settings: what a rank would miss after its imports is found at once."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trainyard.checks.optimizers import SCHEDULE_FREE
from trainyard.config.schema import Config
from trainyard.machine.devices import Devices


class Package(NamedTuple):
    """A package that a setting needs."""

    module: str
    """The name by which Python finds it, without a dot: a parent package would be imported."""
    install: str
    """What `pip install` is given."""


BITSANDBYTES = Package("bitsandbytes", "bitsandbytes")
TORCHAO = Package("torchao", "torchao")
LIGER = Package("liger_kernel", "liger-kernel")

OPTIMIZERS: Mapping[str, Package] = {
    **dict.fromkeys(
        ("adamw_bnb_8bit", "adamw_8bit", "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit",
         "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit",
         "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), BITSANDBYTES,
    ),
    **dict.fromkeys(SCHEDULE_FREE, Package("schedulefree", "schedulefree")),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), TORCHAO),
    "adamw_anyprecision": Package("torchdistx", "git+https://github.com/pytorch/torchdistx"),
    "grokadamw": Package("grokadamw", "grokadamw"),
    "stable_adamw": Package("optimi", "torch-optimi"),
}  # fmt: skip
"""Packages of trainer.optim. Optimizers that are missing here are torch's, transformers' own, or refused."""

FLASH = {
    "flash_attention_2": Package("flash_attn", "flash-attn --no-build-isolation"),
    "flash_attention_3": Package("flash_attn_interface", "flash-attn-3"),
    "flash_attention_4": Package("flash_attn", "flash-attn-4"),
}
ATTENTION = ("eager", "sdpa", "flex_attention", *FLASH)
"""Names of model.attn_implementation; a name with a slash is a kernel on the hub."""

KERNELS = Package("kernels", "kernels")
"""Loads attention from the hub: also FlashAttention where its own package is missing."""

QUANTIZERS = {
    "bitsandbytes": BITSANDBYTES,
    "gptq": Package("gptqmodel", "gptqmodel"),
    "awq": Package("gptqmodel", "gptqmodel"),
    "auto-round": Package("auto_round", "auto-round"),
    "aqlm": Package("aqlm", "aqlm[gpu]"),
    "quanto": Package("optimum", "optimum-quanto"),
    "eetq": Package("eetq", "eetq"),
    "hqq": Package("hqq", "hqq"),
    "compressed-tensors": Package("compressed_tensors", "compressed-tensors"),
    "fbgemm_fp8": Package("fbgemm_gpu", "fbgemm-gpu"),
    "torchao": TORCHAO,
    "vptq": Package("vptq", "vptq"),
    "spqr": Package("spqr_quant", "spqr_quant"),
    "mxfp4": KERNELS,
}
"""Packages by the quant_method of a model's config.json."""

COMPILERS = {
    "onnxrt": Package("onnxruntime", "onnxruntime"),
    "tensorrt": Package("torch_tensorrt", "torch-tensorrt"),
    "tvm": Package("tvm", "apache-tvm"),
}
"""Packages of trainer.torch_compile_backend."""


def package_problems(config: Config, devices: Devices) -> Iterator[str]:
    """A message for each setting whose package or device is missing, with the command that installs it."""
    extra, attention = vars(config.trainer), config.model.attn_implementation
    yield from _missing_for("trainer.optim", extra.get("optim"), OPTIMIZERS)
    yield from _missing_for("trainer.torch_compile_backend", extra.get("torch_compile_backend"), COMPILERS)
    if extra.get("use_liger_kernel"):
        if not devices.on_gpu:
            yield "trainer.use_liger_kernel=true: its kernels need a GPU, and this machine has none; leave it out"
        yield from _missing_for("trainer.use_liger_kernel", "true", {"true": LIGER})
    name = (attention or "sdpa").removeprefix("paged|")
    if name not in ATTENTION and "/" not in name:
        yield f"model.attn_implementation={attention}: must be one of {', '.join(ATTENTION)}"
    elif name in FLASH or "/" in name:
        if not devices.on_gpu:
            yield f"model.attn_implementation={attention}: needs a GPU, and this machine has none; leave it out"
        elif importlib.util.find_spec(KERNELS.module) is None:
            yield from _missing_for("model.attn_implementation", attention, {str(attention): FLASH.get(name, KERNELS)})


def quantization_problems(config: Config, architecture: Mapping[str, Any]) -> Iterator[str]:
    """Messages for a base model whose weights are quantised, given its config.json."""
    quantization = architecture.get("quantization_config")
    if not isinstance(quantization, Mapping) or config.model.init != "pretrained":
        return
    method = str(quantization.get("quant_method", "bitsandbytes"))
    where = f"model.path={config.model.path}: its weights are quantised by {method}"
    if config.peft.method is None:
        yield f"{where}, and cannot be trained themselves; set peft=lora, or name the model in full precision"
    for missing in _missing(method, QUANTIZERS):
        yield f"{where}, which {missing}"


def _missing_for(name: str, value: Any, packages: Mapping[str, Package]) -> Iterator[str]:
    """A message for a setting whose value needs a package that is missing."""
    yield from (f"{name}={value}: {missing}" for missing in _missing(str(value), packages))


def _missing(value: str, packages: Mapping[str, Package]) -> Iterator[str]:
    package = packages.get(value)
    if package and importlib.util.find_spec(package.module) is None:
        yield f"needs {package.module}; install it with pip install {package.install}"
