"""Datasets that the datasets library reads: local ones, and what is said of those that are not there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainyard.config.schema import SourceConfig
from trainyard.data.sources.hub import count_shards, hub_rows, revision
from trainyard.errors import DataError


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    """A directory with three files of two rows."""
    for number in range(3):
        pq.write_table(pa.table({"text": [f"{number}a", f"{number}b"]}), tmp_path / f"train-{number}.parquet")
    return SourceConfig(path=str(tmp_path), format="hub")


def test_a_local_dataset_has_no_commit_a_shard_for_each_file_and_its_rows(source: SourceConfig) -> None:
    assert revision(source) is None
    assert count_shards(source, None) == 3
    assert [row["text"] for row in hub_rows(source)] == ["0a", "0b", "1a", "1b", "2a", "2b"]  # type: ignore[attr-defined]


def test_a_dataset_is_divided_into_a_bounded_number_of_pieces(
    source: SourceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.data.sources.hub._MOST_SHARDS", 2)
    assert count_shards(source, None) == 2


def test_a_split_that_is_not_there_is_named(source: SourceConfig) -> None:
    source.split = "validation"
    with pytest.raises(DataError) as caught:
        hub_rows(source)
    assert caught.value.problems[0].startswith(f"{source.path} (split validation): ")


def test_a_dataset_that_the_hub_does_not_name_is_an_error_and_a_commit_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    asked = []

    class Hub:
        def dataset_info(self, path: str) -> object:
            asked.append(path)
            if path.endswith("gone"):
                raise OSError("404 Not Found\nfurther lines")
            return type("Info", (), {"sha": "c0ffee"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    there, gone = (SourceConfig(path=f"test-of-hub/{name}", format="hub") for name in ("there", "gone"))
    assert [revision(there), revision(there)] == ["c0ffee", "c0ffee"]
    with pytest.raises(DataError) as caught:
        revision(gone)
    assert caught.value.problems == [
        "test-of-hub/gone: neither a local path nor a dataset that the hub would name: 404 Not Found. "
        "Check the id, HF_ENDPOINT and HF_TOKEN"
    ]
    assert asked == ["test-of-hub/there", "test-of-hub/gone"]
