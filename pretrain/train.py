"""One rank of a pretraining run, in the order in which things are built. Started by DeepSpeed's launcher:

python -m pretrain.train RUN_DIRECTORY/config.yaml [CHECKPOINT]
"""

import sys
from pathlib import Path

from trainyard.rundir.rank import Rank
from trainyard.training.process import rank_process


def run(this: Rank) -> None:
    """Trains the run's model from its checkpoint, or from the beginning, to the end or to a stop."""
    # Imported here, once this rank's log is open: the libraries' warnings belong there.
    from trainyard.config import saved
    from trainyard.data.batches.dataset import open_datasets
    from trainyard.data.tokenization import tokenizer as tokenizers
    from trainyard.training.arguments import build_arguments
    from trainyard.training.build import build
    from trainyard.training.finish import announce, finish, train
    from trainyard.training.model import build_model
    from trainyard.training.objectives.causal import CausalLoss
    from trainyard.training.process_group import start_process_group

    config = saved.load(this.run_dir.config)
    start_process_group(config.launch.timeout_s)
    args = build_arguments(config, this.run_dir.checkpoints, this.resume)
    tokenizer = tokenizers.load(str(config.tokenizer.path), trust_remote_code=config.model.trust_remote_code)
    datasets = open_datasets(Path(str(config.data.prepared)), config.data, config.run.seed)
    model = build_model(config, tokenizer, this.say)
    objective = CausalLoss(args.label_smoothing_factor)
    training = build(this, config, args, model, tokenizer, datasets, objective)
    announce(this, config, training, datasets)
    train(this, training)
    finish(this, training)


if __name__ == "__main__":
    with rank_process(sys.argv[1:]) as this:
        run(this)
