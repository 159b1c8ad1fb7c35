"""Values for a model and data of the user's own that nobody gave: they follow from the model, the data and the devices.

resolve.py calls these functions for the settings that are None, and shows what they give.
"""

from trainyard.checks import model_facts
from trainyard.checks.filled_in import FilledIn
from trainyard.config import deepspeed
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.machine.devices import Devices

LARGEST_MICRO_BATCH = 8
"""By default: more sequences at once seldom train faster."""

RATES = (
    (100e6, 1e-3), (240e6, 6e-4), (550e6, 3e-4), (1e9, 2.5e-4), (2e9, 2e-4), (4.5e9, 1.6e-4), (10e9, 1.2e-4),
)  # fmt: skip
"""Peak learning rates from scratch, each for models up to so many parameters (Brown et al., "Language Models are
Few-Shot Learners", 2020, table 2.1; the first as in Biderman et al., "Pythia", 2023)."""

LARGEST_MODELS_RATE = 1e-4

TUNED, ADAPTED = 0.1, 10.0
"""Pretrained weights take a tenth of the rate from scratch; adapters ten times the rate of the weights."""

ADAPTERS_BASE_RATE = 2e-5


def chat_template(config: Config) -> FilledIn | None:
    """chatml for a tokenizer without a template that knows chatml's tokens; None where a template is given, and where
    the tokenizer's own is taken.
    """
    if config.data.chat_template is not None or not STAGES[config.stage].uses_chat_template:
        return None
    path = model_facts.tokenizer_of(config)
    if path is None:
        return FilledIn("data.chat_template", "chatml", "the tokenizer is trained here, and has no template of its own")
    added = {token if isinstance(token, str) else token.get("content") for token in config.tokenizer.add_tokens}
    if model_facts.has_chat_template(path) is not False:
        return None
    if not (added.issuperset(model_facts.CHATML_TOKENS) or model_facts.knows_chatml(path)):
        return None
    return FilledIn("data.chat_template", "chatml", f"{path} has no template of its own, and the tokens of chatml")


def block_size(config: Config) -> FilledIn:
    """The model's context, up to what the stage takes by default."""
    most, context = STAGES[config.stage].longest_block, model_facts.context(model_facts.architecture(config.model))
    if context is None:
        return FilledIn("data.block_size", most, f"the default of {config.stage}; the model's context is not known")
    reason = f"the model's context of {context:,} tokens" + f", up to {most:,} by default" * (context > most)
    return FilledIn("data.block_size", min(context, most), reason)


def learning_rate(config: Config) -> FilledIn:
    """By the size of the model, and by what is trained: new weights, pretrained ones or adapters in front of them."""
    parameters, stage = model_facts.size(config), STAGES[config.stage]
    size = float("inf") if parameters is None else float(parameters)
    rate = next((rate for most, rate in RATES if size <= most), LARGEST_MODELS_RATE)
    what = "weights from scratch"
    if config.model.init == "pretrained":
        rate, what = min(rate * TUNED, stage.tuning_rate), "pretrained weights"
    if config.peft.method is not None:
        rate, what = ADAPTED * min(rate, ADAPTERS_BASE_RATE), f"adapters, peft.method={config.peft.method}"
    told = "of a size that is not known yet" if parameters is None else f"of about {_rounded(parameters)} parameters"
    return FilledIn("trainer.learning_rate", float(f"{rate:.2g}"), f"for {what} {told}")


def _rounded(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{max(1, round(parameters / 1e6))} million"


def fitting_micro_batch(config: Config, devices: Devices) -> int:
    """Sequences that should fit into a device's memory at once, 1 to LARGEST_MICRO_BATCH.

    A rough count: the training state, 16 bytes per parameter (4 where adapters are trained), divided by what ZeRO
    divides; per token 40 bytes for each of a layer's hidden units (Korthikanti et al., 2022; 4 with gradient
    checkpointing), twice as many in fp32; and 10 bytes for each logit. A fifth of the memory stays free.
    """
    values, parameters = model_facts.architecture(config.model), model_facts.size(config)
    shape = model_facts.width_and_depth(values)
    if devices.memory is None or parameters is None or shape is None:
        return LARGEST_MICRO_BATCH
    stage, ranks, trainer = _zero_stage(config), max(1, config.launch.ranks), config.trainer
    whole, divided = (4, 0) if config.peft.method else (16, 0) if not stage else (4, 12) if stage < 3 else (0, 16)
    free = 0.8 * devices.memory - parameters * (whole + divided / ranks)
    per_unit = (4 if trainer.gradient_checkpointing else 40) * (1 if trainer.bf16 or trainer.fp16 else 2)
    logits = 10 * (values.get("vocab_size") or config.tokenizer.vocab_size)
    fitting = int(free // (config.data.sequence_length * (shape[0] * shape[1] * per_unit + logits)))
    return max(1, min(LARGEST_MICRO_BATCH, fitting))


def _zero_stage(config: Config) -> int:
    if config.deepspeed.config is None:
        return 0
    try:
        return deepspeed.stage(deepspeed.read(config.deepspeed.config))
    except (ValueError, TypeError, AttributeError):  # a malformed JSON, which the checks name
        return 0
