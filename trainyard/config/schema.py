"""What can be configured: one dataclass per config group. conf/ gives the values, this file the types and the meaning.

`None` means "not set": derived from other settings, or left to the library's own default.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class PathsConfig:
    outputs: str = "outputs"
    """Root of everything that is written."""


@dataclass(kw_only=True)
class RunConfig:
    name: str | None = None
    """Names the run directory. None: derived from the overrides, so the same command finds the same run again."""
    seed: int = 42
    """Seeds the initial weights, the order of the data and every random generator of every rank."""
    resume: str = "auto"
    """auto: from the newest good checkpoint of this run. never: start over, the earlier directory is kept aside.
    A checkpoint directory: start from that one."""
    sweep: str | None = None
    """The sweep of which the run is a point, given by the sweep; its directory is then sweeps/<sweep>/<name>."""
    allow_changes: list[str] = field(default_factory=list)
    """Settings, or sections of them, that may differ from those the run was begun with, as [trainer.learning_rate]."""


@dataclass(kw_only=True)
class ModelConfig:
    path: str | None = None
    """Hub id or directory. None: a model built from the settings below, from scratch."""
    init: str | None = None
    """pretrained: the weights of `path`. scratch: weights drawn from run.seed. None: pretrained if there is a path."""
    model_type: str | None = None
    """Architecture by its transformers name, as llama or qwen3, when there is no path."""
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    max_position_embeddings: int | None = None
    """Longest context, in tokens."""
    tie_word_embeddings: bool | None = None
    config: dict[str, Any] = field(default_factory=dict)
    """Any other attribute of the model's transformers config, as {rope_theta: 1e6}."""
    attn_implementation: str | None = None
    """eager, sdpa, flash_attention_2, flex_attention ... None: the best that transformers finds."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""


ARCHITECTURE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "tie_word_embeddings",
)
"""Fields of ModelConfig that go into the transformers config under the same name."""


@dataclass(kw_only=True)
class TokenizerConfig:
    path: str | None = None
    """Hub id or directory. None: the model's own; without a model path, a byte-level BPE trained on the data."""
    vocab_size: int = 2048
    """Size of the tokenizer that is trained when there is none, special tokens included."""
    add_tokens: list[Any] = field(default_factory=list)
    """Tokens that it lacks, as ['<|im_start|>', '<|im_end|>']: special, so only the chat template can put them;
    {content: word, special: false} is found in any text. Their embeddings start from the mean of the others."""


@dataclass(kw_only=True)
class SourceConfig:
    path: str
    """File, glob (** crosses folders) or directory; for format hub a dataset id or a local dataset directory."""
    format: str
    """For pretraining text, jsonl, json, parquet or hub; for fine-tuning alpaca, sharegpt, messages, prompt_completion
    or docstrings, in files of JSON, JSON lines or Parquet, or on the hub. Files may be compressed (.gz, .zst)."""
    columns: Any = None
    """For pretraining a list of the column that holds the text; None: `text`, or the only column of strings in the
    first row. For conversations other names of the format's columns, as {instruction: question, output: answer}."""
    document: str = "line"
    """For format text, what a document is: line, paragraph (lines up to a blank one) or file."""
    weight: float | None = None
    """Share of the training tokens, relative to the other sources' weights. None everywhere: by size and epochs."""
    epochs: float = 1.0
    """How often the source is seen in one epoch of the run; with weights, at most. 0.5: a half of its documents."""
    split: str = "train"
    """For format hub, the split to read."""
    subset: str | None = None
    """For format hub, the configuration of the dataset, where it has several."""


@dataclass(kw_only=True)
class DataConfig:
    sources: list[SourceConfig] = field(default_factory=list)
    """Where the documents come from, read in this order."""
    block_size: int = 256
    """Tokens per training sequence."""
    packing: str = "concat"
    """concat: the documents, each closed by end-of-text, follow one another and are cut every block_size tokens.
    best_fit: documents are packed so that none is cut that fits into a block. padded: one document per sequence."""
    truncation: str = "back"
    """For conversations longer than block_size. back: the first exchanges that fit are kept. front: the last ones, and
    the system message. answer: the first block_size tokens, an answer cut. drop: none of it. split: all of it, in
    several sequences, each behind the system message."""
    isolate_documents: bool = False
    """Documents in one sequence do not attend to each other, nor does the end of one predict the next."""
    eval_fraction: float = 0.02
    """Share of the documents held out, chosen by a hash of their text. 0: no evaluation."""
    end_of_text: bool = True
    """Close every document by the tokenizer's end-of-text token."""
    allow_special_tokens: bool = False
    """Let text that spells a special token, as <|endoftext|>, become that token. False: it stays plain text."""
    chat_template: str | None = None
    """For conversations: chatml, plain, or a file with a Jinja template. None: the tokenizer's own."""
    template_variables: dict[str, Any] = field(default_factory=dict)
    """Given to the chat template, as {enable_thinking: false}."""
    learn: str = "all"
    """all: every answer of a conversation is learned. last: the last one."""
    train_on_prompt: bool = False
    """Learn every token of a conversation, whoever said it."""
    max_document_mb: float = 50.0
    """A longer document, in millions of bytes, is bad input: most often a file that was read in the wrong format."""
    on_error: str = "stop"
    """stop: bad documents end the preparation, the first ten named. skip: they are left out, into rejected.jsonl."""
    max_rejected: float = 0.001
    """With on_error=skip, the largest share of the documents that may be left out."""
    prepared: str | None = None
    """Filled in by the controller: the token store of this run."""


@dataclass(kw_only=True)
class TrainerConfig:
    """Settings of the Trainer. Every name of transformers.TrainingArguments may be set; these have a default here."""

    global_batch_size: int | None = None
    """Sequences per optimizer step over all GPUs; gradient accumulation follows from it and the world size."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row in which metric_for_best_model (default eval_loss) did not improve."""
    early_stopping_threshold: float = 0.0
    """Smallest change of the metric that counts as an improvement."""
    async_save: bool = True
    """Train on while a checkpoint is written. Until then it is held in the host's memory, if that has room for it."""

    max_bad_steps: int = 5
    """A step with a NaN or infinite loss or gradient on any rank is skipped on all; so many in a row end the run."""
    on_spike: str = "log"
    """What to do about a step whose loss lies far above those before. log: say so, with its samples, and go on.
    rollback: go back to the newest checkpoint, and leave out the samples up to the spike from then on."""
    spike_deviations: float = 6.0
    """So many standard deviations above the mean of the running window a loss is a spike."""
    spike_window: int = 100
    """Steps in the running window; before it is half full nothing is a spike."""

    per_device_train_batch_size: int | None = None
    """Micro batch: sequences per rank and forward pass. None: the largest up to 8 that divides the global batch."""
    per_device_eval_batch_size: int = 8
    """Sequences per rank and forward pass in evaluation."""
    gradient_accumulation_steps: int | None = None
    """Micro batches per optimizer step and rank. None: derived from global_batch_size."""
    max_steps: int = -1
    """Optimizer steps; above 0 it overrides num_train_epochs."""
    num_train_epochs: float = 1.0
    learning_rate: float = 3e-4
    lr_scheduler_type: str = "cosine"
    bf16: bool | None = None
    """None: on where the GPU supports it."""
    fp16: bool | None = None
    gradient_checkpointing: bool = False
    logging_steps: float = 10
    """Optimizer steps between two lines of metrics."""
    eval_strategy: str = "steps"
    eval_steps: float | None = None
    eval_on_start: bool = True
    """Evaluate before the first step, so that there is a value to compare with."""
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = 3
    """Checkpoints kept; older ones are deleted once a newer one is whole."""
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    max_grad_norm: float = 1.0
    dataloader_num_workers: int = 0
    """Processes per rank that read ahead. Reading is a memory map, so 0 is enough for text."""


@dataclass(kw_only=True)
class DeepSpeedConfig:
    config: str | None = None
    """A JSON of ds_configs/ by name, or any DeepSpeed JSON by path. None: plain DDP."""


@dataclass(kw_only=True)
class PeftConfig:
    """Adapters of the peft library."""

    method: str | None = None
    """lora, or None: every parameter is trained."""
    r: int = 8
    """Rank of the adapters."""
    alpha: int = 16
    """Their scale: what they add is multiplied by alpha / r."""
    dropout: float = 0.0
    target_modules: Any = "all-linear"
    """Names of layers, a regular expression, or all-linear: every linear layer but the output."""


@dataclass(kw_only=True)
class TrackingConfig:
    backend: str | None = "swanlab"
    """swanlab, or None for metrics.jsonl alone."""
    mode: str = "local"
    """local: dashboard on this machine. cloud: swanlab.cn or a private host. offline: to be synced later. disabled."""
    project: str = "trainyard"
    workspace: str | None = None
    tags: list[str] = field(default_factory=list)
    samples: int = 0
    """Prompts of held-out documents that the model answers before the first step and after the last, for samples.jsonl
    and the dashboard."""
    sample_tokens: int = 128
    """Longest answer, in tokens."""


@dataclass(kw_only=True)
class LaunchConfig:
    num_devices: int | None = None
    """Ranks on each node. None: all GPUs, or 2 CPU ranks."""
    devices_per_job: int | None = None
    """Ranks of each run of a sweep; as many runs go on at once as num_devices has room for. None: one with all."""
    hostfile: str | None = None
    """DeepSpeed hostfile, `host slots=N` a line: ssh starts the ranks on each node, this one included if it is named.
    The nodes share a file system. None: this machine alone."""
    num_nodes: int = 1
    """Nodes; filled in from the hostfile where there is one."""
    node_rank: int | None = None
    """Where the command is given on each node by itself, which of them this is, from 0; as $SLURM_NODEID."""
    master_addr: str | None = None
    """The host name or address by which all nodes reach node 0. None with a hostfile: the name of its first host."""
    master_port: int | None = None
    """None: a free one; with node_rank 29500."""
    grace_period_s: float = 110.0
    """Seconds between a stop signal and the moment when the ranks are killed if they have not saved and left."""
    max_restarts: int = 3
    """Launches after a failure, each from the newest good checkpoint; a step that fails twice is not tried again."""
    hang_timeout_s: float = 1800.0
    """Seconds without any progress after which the stacks of all ranks are written to their logs and the run is
    restarted."""
    timeout_s: float = 1800.0
    """Seconds that a collective operation may wait for the other ranks before it fails."""

    @property
    def ranks(self) -> int:
        """On all nodes together, once num_devices is known."""
        return (self.num_devices or 1) * self.num_nodes


@dataclass(kw_only=True)
class SweepConfig:
    """With -m: many runs by one command, one for every combination of the values that settings are given."""

    name: str | None = None
    """Names the sweep's directory. None: derived from the overrides, so the same command finds the same sweep again."""
    params: dict[str, str] = field(default_factory=dict)
    """What is swept beside the command line's, in Hydra's grammar, as {trainer.learning_rate: '1e-4,3e-4'}."""
    metric: str = "eval_loss"
    """By which points are compared: any number of metrics.jsonl."""
    maximize: bool = False
    """Is more of it better?"""
    retry_failed: bool = False
    """Begin points again that an earlier command saw fail."""
    search: str = "grid"
    """grid: every combination. tpe: Optuna chooses each point by those before, from intervals too."""
    trials: int = 20
    """Points of a search."""
    prune: bool = True
    """Give up a point of a search whose metric falls behind the median of those before at the same step."""


@dataclass(kw_only=True)
class Config:
    stage: str
    """pretrain or sft."""
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
