"""Settings around the training, where, how often and how watched: the sections launch, sweep and tracking of
trainyard.config.schema.
"""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class LaunchConfig:
    """The devices and nodes of a run, and how long the controller waits for its ranks."""

    num_devices: int | None = None
    """Ranks per node. None: one for each GPU; 2 on a CPU."""
    devices_per_job: int | None = None
    """Ranks per run of a sweep. Runs go on side by side as num_devices allows. None: one run with all devices."""
    hostfile: str | None = None
    """DeepSpeed hostfile, a line `host slots=N` per node; ssh starts the ranks there. This machine takes part only if
    it is named. The nodes share a file system. None: this machine alone."""
    num_nodes: int = 1
    """Number of nodes. A hostfile decides it."""
    node_rank: int | None = None
    """Number of this node, from 0, if the command is given on each node by itself, as $SLURM_NODEID."""
    master_addr: str | None = None
    """Host name or address by which all nodes reach node 0. None with a hostfile: its first host."""
    master_port: int | None = None
    """Port for the ranks to meet. None: a free one; with node_rank 29500."""
    grace_period_s: float = 110.0
    """Seconds from a stop signal to the end of ranks that have not saved and left by themselves."""
    max_restarts: int = 3
    """Launches after a failure, each from the newest good checkpoint. A step that fails twice is not tried again."""
    hang_timeout_s: float = 1800.0
    """Seconds without progress after which all ranks write their stacks to their logs and the run is restarted."""
    timeout_s: float = 1800.0
    """Seconds that a collective operation waits for the other ranks before it fails."""

    @property
    def ranks(self) -> int:
        """Number of ranks on all nodes together, once num_devices is known."""
        return (self.num_devices or 1) * self.num_nodes


@dataclass(kw_only=True)
class SweepConfig:
    """With -m: many runs from one command, one for every combination of the values that settings are given."""

    name: str | None = None
    """Names the sweep and its directory. None: derived from the overrides, so the same command goes on with it."""
    params: dict[str, str] = field(default_factory=dict)
    """Settings to sweep beside those of the command line, in Hydra's grammar: {trainer.learning_rate: '1e-4,3e-4'}."""
    metric: str = "eval_loss"
    """Metric by which points are compared: any number of metrics.jsonl."""
    maximize: bool = False
    """A larger metric is better."""
    retry_failed: bool = False
    """Start points again that failed under an earlier command."""
    search: str = "grid"
    """grid: every combination. tpe: Optuna chooses each point from the results so far, from intervals too."""
    trials: int = 20
    """Number of points of a tpe search."""
    prune: bool = True
    """Give up a point of a tpe search if its metric is worse than the median of earlier points at the same step."""


@dataclass(kw_only=True)
class TrackingConfig:
    """Dashboards, and the answers that a run shows on the way."""

    backend: str | None = "swanlab"
    """swanlab. None: only metrics.jsonl."""
    mode: str = "local"
    """local: a dashboard on this machine. cloud: swanlab.cn or a private host. offline: uploaded later. disabled."""
    project: str = "trainyard"
    """The dashboard's project."""
    workspace: str | None = None
    """The dashboard's workspace. None: that of the account."""
    tags: list[str] = field(default_factory=list)
    """Labels by which runs are found in the dashboard."""
    samples: int = 0
    """Held-out prompts that the model answers before the first step and after the last (samples.jsonl, dashboard)."""
    sample_tokens: int = 128
    """Longest answer, in tokens."""
