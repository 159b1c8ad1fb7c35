"""Every setting: a dataclass per section, a type and a meaning per field. conf/ gives the values.

`None` means "not set": the value is derived from other settings, or left to the library's default. The sections about
devices, many runs and dashboards (launch, sweep, tracking) are in schema_launch.py.
"""

from dataclasses import dataclass, field
from typing import Any

from trainyard.config.schema_launch import LaunchConfig, SweepConfig, TrackingConfig

PROFILE_AFTER = 3
"""Steps before a trace: the first ones compile, allocate and fill caches. The profiler itself starts in the last."""


@dataclass(kw_only=True)
class PathsConfig:
    """Where files are written."""

    outputs: str = "outputs"
    """Directory below which everything is written."""


@dataclass(kw_only=True)
class RunConfig:
    """The identity of a run, and how a command goes on with it."""

    name: str | None = None
    """Names the run and its directory. None: derived from the overrides, so the same command resumes the same run."""
    seed: int = 42
    """Seeds the initial weights, the order of the data and every random generator of every rank."""
    resume: str = "auto"
    """auto: go on from the newest good checkpoint of this run. never: start over; the earlier directory is renamed.
    A checkpoint directory: start from it."""
    sweep: str | None = None
    """The sweep that the run is a point of. The sweep sets it; the run's directory is then sweeps/<sweep>/<name>."""
    allow_changes: list[str] = field(default_factory=list)
    """Settings or sections that may differ from those the run was begun with, as [trainer.learning_rate]."""
    profile_steps: int = 0
    """Optimizer steps of each start, after the first three, that rank 0 traces into logs/trace.json.gz. 0: none."""


@dataclass(kw_only=True)
class ModelConfig:
    """The model to train: pretrained, or new."""

    path: str | None = None
    """Hub id or directory. None: a new model of the architecture below."""
    init: str | None = None
    """pretrained: the weights of `path`. scratch: weights drawn from run.seed. None: pretrained if there is a path."""
    model_type: str | None = None
    """Architecture of a model without a path, by its transformers name, as llama or qwen3."""
    hidden_size: int | None = None
    """Width of a token's vector. None, here and below: the value of `path`, or the default of model_type."""
    intermediate_size: int | None = None
    """Width of the feed-forward layers."""
    num_hidden_layers: int | None = None
    """Number of transformer blocks."""
    num_attention_heads: int | None = None
    """Query heads per layer."""
    num_key_value_heads: int | None = None
    """Key and value heads per layer. Fewer than query heads: grouped-query attention."""
    max_position_embeddings: int | None = None
    """Longest context, in tokens."""
    tie_word_embeddings: bool | None = None
    """Share one matrix between the input embeddings and the output."""
    config: dict[str, Any] = field(default_factory=dict)
    """Any other attribute of the model's transformers config, as {rope_theta: 1e6}."""
    attn_implementation: str | None = None
    """eager, sdpa, flash_attention_2, flex_attention or another of transformers'. None: the best that it finds."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""


ARCHITECTURE = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "tie_word_embeddings",
)  # fmt: skip
"""Fields of ModelConfig that go into the transformers config under the same name."""


@dataclass(kw_only=True)
class TokenizerConfig:
    """The tokenizer: that of the model, another, or one that is trained on the data."""

    path: str | None = None
    """Hub id or directory. None: the model's own; for a model without a path, a byte-level BPE trained on the data."""
    vocab_size: int = 2048
    """Tokens of a tokenizer that is trained here, special tokens included."""
    add_tokens: list[Any] = field(default_factory=list)
    """Tokens to add, as ['<|im_start|>', '<|im_end|>']. They are special: only the chat template produces them.
    {content: word, special: false} is found in any text. Their embeddings start at the mean of the others."""


@dataclass(kw_only=True)
class SourceConfig:
    """One source of documents."""

    path: str
    """File, glob (** crosses directories) or directory; for format hub a dataset id or a local dataset directory."""
    format: str
    """For pretraining text, jsonl, json, parquet or hub. For fine-tuning alpaca, sharegpt, messages, prompt_completion
    or docstrings, in files of JSON, JSON lines or Parquet, or on the hub. Files may be compressed (.gz, .zst)."""
    columns: Any = None
    """For text a list of the one column that holds it; None: `text`, or the only column of strings in the first row.
    For conversations other names of the format's columns, as {instruction: question, output: answer}."""
    document: str = "line"
    """For format text, the unit that is a document: line, paragraph (lines up to a blank one) or file."""
    weight: float | None = None
    """Share of the training tokens, relative to the weights of the other sources. None: by size and epochs."""
    epochs: float = 1.0
    """Times the source is seen per epoch of the run, 0.5 for half of its documents; with weights, an upper limit."""
    split: str = "train"
    """For format hub, the split to read."""
    subset: str | None = None
    """For format hub, the configuration of a dataset that has several."""


@dataclass(kw_only=True)
class DataConfig:
    """The training data: its sources, and how documents become sequences."""

    sources: list[SourceConfig] = field(default_factory=list)
    """Where the documents come from, read in this order."""
    block_size: int | None = None
    """Length of a training sequence, in tokens. None: the model's context, up to 2,048 in pretraining and 4,096 in
    fine-tuning."""
    packing: str = "concat"
    """concat: documents follow one another and are cut every block_size tokens. best_fit: several documents share a
    sequence, and none that fits into one is cut. padded: one document per sequence."""
    truncation: str = "back"
    """What is kept of a conversation longer than block_size. back: the first exchanges that fit. front: the last ones,
    and the system message. answer: the first block_size tokens, even if they end within an answer. drop: nothing.
    split: everything, in several sequences that each begin with the system message."""
    isolate_documents: bool = False
    """Documents in one sequence do not attend to each other, and none is predicted from the end of another."""
    eval_fraction: float = 0.02
    """Share of the documents that is held out for evaluation, chosen by a hash of their text. 0: no evaluation."""
    end_of_text: bool = True
    """Close every document with the tokenizer's end-of-text token."""
    allow_special_tokens: bool = False
    """Text that spells a special token, as <|endoftext|>, becomes that token. False: it stays plain text."""
    chat_template: str | None = None
    """For conversations: chatml, plain, a file with a Jinja template, or the name of one of the tokenizer's own. None:
    the tokenizer's own, as transformers chooses it; chatml for a tokenizer that has none and knows the tokens
    <|im_start|> and <|im_end|>."""
    template_variables: dict[str, Any] = field(default_factory=dict)
    """Variables for the chat template, as {enable_thinking: false}."""
    strict_template: bool = False
    """Refuse a conversation of which the chat template leaves out tools or a message. False: it is trained as the
    template has it, and prepare and every start say how often that happens."""
    learn: str = "all"
    """The answers of a conversation that are learned: all, or the last."""
    train_on_prompt: bool = False
    """Learn every token of a conversation, not only the answers."""
    max_document_mb: float = 50.0
    """Longest document, in megabytes (10^6 bytes). A longer one is bad input: most often a file in another format."""
    on_error: str = "stop"
    """stop: bad documents end the preparation, and the first ten are named. skip: they go to rejected.jsonl instead."""
    max_rejected: float = 0.001
    """With on_error=skip, the largest share of the documents that may be rejected."""
    max_dropped: float = 0.05
    """The largest share of the conversations that may be left out because not one exchange fits into block_size."""
    max_sequences: int | None = None
    """Train on the first sequences alone, so many, again and again. None: on all. debug=overfit takes one batch."""
    prepared: str | None = None
    """Directory of the token store. The controller sets it."""

    @property
    def sequence_length(self) -> int:
        """block_size, once the config is resolved."""
        assert self.block_size is not None, "data.block_size is filled in by checks.resolve"
        return self.block_size


@dataclass(kw_only=True)
class TrainerConfig:
    """Every name of transformers.TrainingArguments may be set, with its meaning there. These have a default here."""

    global_batch_size: int | None = None
    """Sequences per optimizer step, over all ranks. Gradient accumulation follows from it. None: it follows from the
    micro batch and the accumulation; without these about 64 in pretraining and 16 in fine-tuning."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row without a better metric_for_best_model (default eval_loss)."""
    early_stopping_threshold: float = 0.0
    """Smallest change of that metric that counts as better."""
    async_save: bool = True
    """Train on while a checkpoint is written. It waits in host memory; without enough memory, training waits."""

    max_bad_steps: int = 5
    """A step with a NaN or infinite loss or gradient on any rank is skipped on all. So many in a row end the run."""
    on_spike: str = "log"
    """Reaction to a loss far above those before. log: report it with its samples, and go on. rollback: return to the
    newest checkpoint, and leave out the samples up to the spike from then on."""
    spike_deviations: float = 6.0
    """A loss is a spike if it lies so many standard deviations above the mean of the running window."""
    spike_window: int = 100
    """Length of the running window, in steps. Until it is half full, no loss is a spike."""

    per_device_train_batch_size: int | None = None
    """Micro batch: sequences per rank and forward pass. None: the largest up to 8 that divides the global batch and
    should fit into the memory of a GPU."""
    per_device_eval_batch_size: int | None = 8
    """Sequences per rank and forward pass of an evaluation. None: per_device_train_batch_size."""
    gradient_accumulation_steps: int | None = None
    """Micro batches per rank and optimizer step. None: derived from global_batch_size."""
    max_steps: int = -1
    """Length of the run, in optimizer steps. -1: num_train_epochs decides."""
    num_train_epochs: float = 1.0
    """Length of the run, in epochs, where max_steps is not set."""
    learning_rate: float | None = None
    """Peak learning rate. None: by the size of the model and the kind of training; see the how-to on own text."""
    lr_scheduler_type: str = "cosine"
    """Shape of the learning rate over the run; lr_scheduler_kwargs has its settings."""
    bf16: bool | None = None
    """Compute in bfloat16. None: where the GPU supports it."""
    fp16: bool | None = None
    """Compute in float16 with a scaled loss, on GPUs without bfloat16."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    logging_steps: float = 10
    """Optimizer steps between two lines of metrics. Here and below, a number under 1 is a share of the run."""
    eval_strategy: str = "steps"
    """When to evaluate: steps, epoch or no."""
    eval_steps: float | None = None
    """Optimizer steps between two evaluations. None: logging_steps."""
    eval_on_start: bool = True
    """Evaluate before the first step, so that later values have something to compare with."""
    save_strategy: str = "steps"
    """When to save a checkpoint: steps, epoch, best (after an evaluation that is the best so far) or no."""
    save_steps: float = 500
    """Optimizer steps between two checkpoints."""
    save_total_limit: int | None = 3
    """Checkpoints to keep, besides the best; older ones are deleted once a newer one is complete. None: all."""
    load_best_model_at_end: bool = False
    """The final model is that of the best evaluation whose step has a checkpoint, not of the last step."""
    metric_for_best_model: str | None = None
    """Metric by which evaluations are compared: loss (the default) or perplexity, the smaller the better."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped. 0: no clipping."""
    dataloader_num_workers: int = 0
    """Processes per rank that read ahead. Reading is a memory map, so 0 is enough for text."""


@dataclass(kw_only=True)
class DeepSpeedConfig:
    """How states are divided among the ranks."""

    config: str | None = None
    """A JSON of ds_configs/ by name, or any DeepSpeed JSON by path. None: plain DDP."""


@dataclass(kw_only=True)
class PeftConfig:
    """Adapters of the peft library."""

    method: str | None = None
    """lora. None: every parameter is trained."""
    r: int = 8
    """Rank of the adapters."""
    alpha: int = 16
    """Scale of the adapters: their output is multiplied by alpha / r."""
    dropout: float = 0.0
    """Probability that an input of an adapter is dropped."""
    target_modules: Any = "all-linear"
    """Layers that get an adapter: names, a regular expression, or all-linear, every linear layer but the output."""


@dataclass(kw_only=True)
class Config:
    """A whole request: what a command composes, and what config.yaml holds."""

    stage: str
    """A row of config/stages.py. The command decides it."""
    paths: PathsConfig = field(default_factory=PathsConfig)
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    peft: PeftConfig = field(default_factory=PeftConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
