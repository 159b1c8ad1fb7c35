"""The stages: one row for all that differs between pretraining and fine-tuning outside their own packages.

A further stage is a package at the top of the checkout (`__main__`, `train`, `encode`), a row here, conf/<name>.yaml
and launch/<name>.sh. No other file of trainyard spells a stage's name.
"""

from dataclasses import dataclass

from trainyard import COMMAND, INSTALLED

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the commands, the checks and the preparation need to know of a stage."""

    name: str
    """Names the stage in commands, in config.yaml, and in the run directories `<outputs>/<name>/<run.name>`."""
    module: str
    """The package with the stage's command: `python -m <module> [overrides]` is one run."""
    rank_module: str
    """The module that DeepSpeed's launcher starts once per device."""
    encoder_module: str
    """The module whose `Encoder` turns documents into token ids."""
    formats: tuple[str, ...]
    """Legal values of data.sources[].format."""
    packings: tuple[str, ...]
    """Legal values of data.packing."""
    decisive: tuple[str, ...]
    """Fields of DataConfig that change a token id or the loss mask. Their order is part of the fingerprint."""
    decisive_later: tuple[str, ...] = ()
    """Further such fields, which version 0.1 lacked: they are in the fingerprint where they differ from the default."""
    masked: bool
    """Does a document come with a loss mask? Without one every token is learned."""
    longest_block: int
    """data.block_size where nobody gives it, unless the model's context is shorter."""
    global_batch: int
    """trainer.global_batch_size where nobody gives it, about: the ranks and the micro batch divide it."""
    tuning_rate: float
    """Peak learning rate for pretrained weights where nobody gives it, at most."""
    default_model: str | None
    """A model directory below paths.outputs. If it is there, it is the model of a command that names no model."""
    smallest_part: int
    """Bytes of source files per part of the prepared data, at least. Rendering conversations takes longer than
    tokenizing text, and there are fewer of them: their parts are smaller, so that all processes end together."""
    bytes_per_process: int
    """One more process prepares the data for so many bytes of source files: less work would not pay its start-up."""
    cores_per_process: int
    """CPU cores that such a process keeps busy: text is tokenized by several, conversations are rendered by one."""
    summary: str
    """What its command does, for `trainyard --help`."""
    next_command: str
    """The command to try after a finished run; `{model}` stands for the model's directory, a stage's name in braces for
    the words that start it."""

    @property
    def uses_chat_template(self) -> bool:
        """Does the tokenizer's own chat template change the tokens, as data.chat_template does?"""
        return "chat_template" in self.decisive

    @property
    def words(self) -> tuple[str, str]:
        """The words with which a user starts the stage, for commands that are printed."""
        return ("trainyard", self.name) if INSTALLED else ("bash", f"launch/{self.name}.sh")

    def next(self, model: str) -> str:
        """The command to try with the model of a finished run."""
        return self.next_command.format(model=model, **{name: " ".join(row.words) for name, row in STAGES.items()})


_ROWS = (
    Stage(
        name="pretrain",
        module="pretrain",
        rank_module="pretrain.train",
        encoder_module="pretrain.encode",
        formats=("text", "jsonl", "json", "parquet", "hub"),
        packings=("concat", "best_fit", "padded"),
        decisive=("end_of_text", "allow_special_tokens"),
        masked=False,
        longest_block=2048,
        global_batch=64,
        tuning_rate=1.0,
        default_model=None,
        smallest_part=16 * MIB,
        bytes_per_process=4 * GIB,
        cores_per_process=4,
        summary="pretrain a language model on text",
        next_command="{sft} model.path={model}",
    ),
    Stage(
        name="sft",
        module="sft",
        rank_module="sft.train",
        encoder_module="sft.encode",
        formats=("alpaca", "sharegpt", "messages", "prompt_completion", "docstrings"),
        packings=("best_fit", "padded"),
        decisive=("chat_template", "template_variables", "learn", "train_on_prompt"),
        decisive_later=("strict_template",),
        masked=True,
        longest_block=4096,
        global_batch=16,
        tuning_rate=2e-5,
        default_model="pretrain/default/model",
        smallest_part=4 * MIB,
        bytes_per_process=16 * MIB,
        cores_per_process=1,
        summary="fine-tune a language model on conversations",
        next_command=f"{COMMAND} chat {{model}}",
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ROWS}
"""The rows by name, in the order in which a model passes through them."""
