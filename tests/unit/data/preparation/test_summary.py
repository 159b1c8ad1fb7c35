"""The numbers of a store."""

from pathlib import Path

from trainyard.data.preparation.summary import histogram, summarize
from trainyard.data.sequences import plans
from trainyard.data.store import TokenStore
from unit.preparing import request_for, run


def test_the_summary_counts(tmp_path: Path, corpus_file: Path) -> None:
    request = request_for(tmp_path / "out", corpus_file, block_size=32, eval_fraction=0.2)
    prepared = run(request)
    summary = summarize(prepared, request)
    assert summary["documents"] == 40
    assert 0 < summary["held_out"] < 40
    held_out = plans.load(plans.directory_of(prepared.store, request.data, 0)).held_out
    assert summary["sequences"] * 32 + summary["tail"] + held_out.num_tokens == summary["tokens"]
    assert (summary["fill"], summary["rejected"]) == (1.0, 0)
    lengths = TokenStore(prepared.store).lengths
    rows = histogram(prepared)
    assert sum(count for _, count in rows) == 40
    for bound, count in rows:
        assert count == int(((lengths > bound // 2) & (lengths <= bound)).sum())
