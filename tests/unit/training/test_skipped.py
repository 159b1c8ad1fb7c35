"""Stretches of the data that a run leaves out."""

from pathlib import Path

import pytest

from trainyard.errors import FinalError
from trainyard.rundir.directory import RunDir
from trainyard.training import skipped


def test_a_run_leaves_out_its_own_stretches_and_inherited_ones(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert skipped.read(run) == [] and list(skipped.stretches(run)) == []
    skipped.add(run, {"first_sample": 8, "last_sample": 15, "step": 2})
    skipped.add(run, {"first_sample": 40, "last_sample": 47, "step": 6})
    assert [record["step"] for record in skipped.read(run)] == [2, 6]
    assert list(skipped.stretches(run)) == [(8, 16), (40, 48)]
    assert list(skipped.stretches(run, [[14, 20], [100, 104]])) == [(8, 20), (40, 48), (100, 104)]


@pytest.mark.parametrize("damaged", ["", '{"stretches": [{"fir', "[]", "{}"])
def test_a_damaged_file_is_no_file_without_stretches(tmp_path: Path, damaged: str) -> None:
    run = RunDir(tmp_path)
    run.skipped.write_text(damaged)
    with pytest.raises(FinalError, match=r"skipped\.json: damaged\. Put back a copy, or start over"):
        skipped.stretches(run)
