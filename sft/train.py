"""One rank of a fine-tuning run, in the order in which things are built. Started by DeepSpeed's launcher:

python -m sft.train RUN_DIRECTORY/config.yaml [CHECKPOINT]
"""

import sys
from pathlib import Path

from trainyard.worker import Worker, worker


def train(this: Worker) -> None:
    # Imported here, once this rank's log is open: the libraries' warnings belong there.
    from trainyard import adapters, factory, inference, model, runconfig, trainer
    from trainyard.data import added_tokens
    from trainyard.data import tokenizer as tokenizers
    from trainyard.data.dataset import open_datasets

    config = runconfig.load(this.run_dir.config)
    trainer.start_process_group(config.launch.timeout_s)
    args = trainer.training_arguments(config, this.run_dir.checkpoints, this.resume)
    tokenizer = tokenizers.load(
        str(config.tokenizer.path),
        trust_remote_code=config.model.trust_remote_code,
        chat_template=config.data.chat_template,
    )
    added = added_tokens.ids(tokenizer, config.tokenizer.add_tokens)
    datasets = open_datasets(Path(str(config.data.prepared)), config.data, config.run.seed)
    network = model.build(
        config.model,
        vocab_size=tokenizers.vocab_size(tokenizer),
        special_ids=tokenizers.special_ids(tokenizer),
        seed=config.run.seed,
        own_vocab=config.model.path is None,
        added=added,
    )
    inference.stop_at(network, inference.end_ids(tokenizer, config.data.template_variables))
    network = adapters.adapt(network, config.peft, seed=config.run.seed, added=added)
    run = factory.build(this, config, args, network, tokenizer, datasets)
    factory.announce(this, config, run, datasets)
    factory.train(this, run)
    factory.finish(this, run)


if __name__ == "__main__":
    with worker(sys.argv[1:]) as this:
        train(this)
