"""What the fingerprint covers, by which prepared data is found again, and what it does not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.data.conversations.shipped import shipped
from trainyard.data.preparation import fingerprint, prepare
from trainyard.data.sequences import plans
from unit.preparing import request_for, run


def test_what_does_not_change_a_token_is_not_in_the_fingerprint(tmp_path: Path, corpus_file: Path) -> None:
    prepared = run(request_for(tmp_path / "out", corpus_file))
    os.utime(corpus_file, (1, 1))
    assert prepare.find(request_for(tmp_path / "out", corpus_file)) == prepared
    moved = corpus_file.rename(tmp_path / "elsewhere.jsonl")
    assert prepare.find(request_for(tmp_path / "out", moved)) == prepared


def test_only_templates_of_others_are_rendered_otherwise_than_in_version_0_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").write_text("{}")

    def digest(stage: str, template: str | None) -> str:
        data = DataConfig(sources=[SourceConfig(path=str(tmp_path / "rows"), format="alpaca")], chat_template=template)
        return fingerprint.sources_digest(stage, data, tmp_path / "digests.json")

    cases = [
        ("sft", None),
        ("sft", "{{ messages }}"),
        *(("sft", source) for source in shipped().values()),
        ("pretrain", None),
    ]
    now = [digest(*case) for case in cases]
    monkeypatch.setattr(fingerprint, "_encoding", lambda stage, data: [])  # version 0.1 had none
    assert [digest(*case) == found for case, found in zip(cases, now, strict=True)] == [False, False, True, True, True]


def test_changed_bytes_of_the_same_size_and_time_are_noticed(tmp_path: Path, corpus_file: Path) -> None:
    run(request_for(tmp_path / "out", corpus_file))
    before = corpus_file.stat()
    text = corpus_file.read_text()
    corpus_file.write_text(text.replace("the", "teh"))
    os.utime(corpus_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus_file.stat().st_size == before.st_size
    assert prepare.find(request_for(tmp_path / "out", corpus_file)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"format": "text", "document": "line"}, {"format": "text", "document": "file"}),
        ({"format": "jsonl", "columns": ["a"]}, {"format": "jsonl", "columns": ["b"]}),
        ({"format": "text"}, {"format": "jsonl"}),
    ],
    ids=str,
)
def test_how_a_source_is_read_is_in_the_fingerprint(tmp_path: Path, before: Any, after: Any) -> None:
    file = tmp_path / "rows"
    file.write_text('{"a": "x", "b": "y"}\n')

    def digest(settings: Any) -> str:
        data = DataConfig(sources=[SourceConfig(path=str(file), **settings)])
        return fingerprint.sources_digest("pretrain", data, tmp_path / "digests.json")

    assert digest(before) != digest(after)
    assert digest(before) == digest(before | {"split": "test"})  # which only hub sources have


def test_conversations_from_arrow_are_not_those_that_version_0_1_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their tokens may differ, for nulls are taken out of them; all other data keeps its name."""

    def digest(file: str, form: str) -> str:
        (tmp_path / file).write_bytes(b"")
        data = DataConfig(sources=[SourceConfig(path=str(tmp_path / file), format=form)])
        return fingerprint.sources_digest("sft", data, tmp_path / "none" / "digests.json")

    kinds = [("a.parquet", "messages"), ("a.jsonl", "messages"), ("a.json", "alpaca"), ("a.parquet", "parquet")]
    now = [digest(*kind) for kind in kinds]
    monkeypatch.setattr(fingerprint, "_arrow_rows", lambda *source: [])
    assert [digest(*kind) == name for kind, name in zip(kinds, now, strict=True)] == [False, True, True, True]


def test_settings_that_version_0_1_lacked_count_where_they_are_not_the_default(tmp_path: Path) -> None:
    def digest(stage: str, **settings: Any) -> str:
        return fingerprint.sources_digest(stage, DataConfig(**settings), tmp_path / "none" / "digests.json")

    assert digest("sft", strict_template=False) == digest("sft")
    assert digest("sft", strict_template=True) != digest("sft")
    assert digest("pretrain", strict_template=True) == digest("pretrain")


def test_files_of_a_dataset_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "a-test.parquet").write_bytes(b"x")
    data = DataConfig(sources=[SourceConfig(path=str(tmp_path), format="hub")])
    before = fingerprint.sources_digest("pretrain", data, tmp_path.parent / "digests.json")
    (tmp_path / "a-test.parquet").rename(tmp_path / "a-train.parquet")
    assert fingerprint.sources_digest("pretrain", data, tmp_path.parent / "digests.json") != before


def test_of_a_tokenizers_config_only_what_decides_ids_counts(tmp_path: Path) -> None:
    def name(stage: str, **settings: Any) -> str:
        file = tmp_path / "tokenizer_config.json"
        file.write_text(json.dumps(settings))
        return fingerprint.store_name(stage, "", [file])

    assert name("pretrain", model_max_length=1, chat_template="a") == name("pretrain", chat_template="b")
    assert name("sft", chat_template="a") != name("sft", chat_template="b")
    assert name("pretrain", add_prefix_space=True) != name("pretrain")
    further = tmp_path / "additional_chat_templates" / "tool_use.jinja"
    further.parent.mkdir()
    further.write_text("x")
    assert fingerprint.store_name("pretrain", "", [further]) == fingerprint.store_name("pretrain", "", [])
    assert fingerprint.store_name("sft", "", [further]) != fingerprint.store_name("sft", "", [])


def test_the_plan_of_a_mixture_depends_on_shares_and_seed(tmp_path: Path, corpus_file: Path) -> None:
    def place(seed: int, **shares: float) -> Path:
        data = DataConfig(sources=[SourceConfig(path=str(corpus_file), format="jsonl", **shares)])
        return plans.directory_of(tmp_path, data, seed)

    assert place(1) == place(2)
    assert len({place(1), place(1, epochs=2.0), place(1, weight=1.0), place(2, epochs=2.0)}) == 4


def test_a_corpus_is_hashed_once(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for(tmp_path / "out", corpus_file)
    run(request)
    opened: list[Path] = []
    inner = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **kw: (opened.append(self), inner(self, *args, **kw))[1])
    cache = tmp_path / "out" / "prepared" / "digests.json"
    fingerprint.sources_digest("pretrain", request.data, cache)
    assert corpus_file not in opened
    cache.unlink()
    fingerprint.sources_digest("pretrain", request.data, cache)
    assert corpus_file in opened
