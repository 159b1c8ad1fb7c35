"""Datasets of the hub, and local ones that the datasets library reads."""

import functools

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.files import is_remote
from trainyard.errors import DataError
from trainyard.files import first_line

_MOST_SHARDS = 1000
"""A dataset is divided into at most so many pieces, and each becomes a part."""


def revision(source: SourceConfig) -> str | None:
    """The commit of a source on the hub; None for a local source.

    The hub is asked once per process, so everything that a process reads comes from one commit.

    Raises:
        DataError: the hub does not know the dataset, or does not answer.
    """
    return _commit(source.path) if is_remote(source) else None


@functools.cache
def _commit(path: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(path).sha)
    except Exception as error:  # the hub's and the network's errors share no base class
        raise DataError(
            f"{path}: neither a local path nor a dataset that the hub would name: {first_line(error)}. "
            f"Check the id, HF_ENDPOINT and HF_TOKEN"
        ) from error


def hub_rows(source: SourceConfig, revision: str | None = None) -> object:
    """The dataset, streamed.

    Raises:
        DataError: with the reason that `datasets` gives.
    """
    import datasets

    try:
        return datasets.load_dataset(source.path, source.subset, split=source.split, revision=revision, streaming=True)
    except Exception as error:  # the hub's errors share no base class
        raise DataError(f"{source.path} (split {source.split}): {error}") from error


def count_shards(source: SourceConfig, revision: str | None) -> int:
    """Shards into which the dataset is divided, at least 1."""
    return min(_MOST_SHARDS, int(getattr(hub_rows(source, revision), "num_shards", 1) or 1))
