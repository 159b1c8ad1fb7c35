"""Preparations in parts: killed, shared, and begun with a backend that turns out wrong."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.encode import Encoder
from trainyard.data.preparation import division, prepare
from trainyard.data.preparation.request import DataRequest, Share
from trainyard.data.store import SourceCounts, StoreSummary, TokenStore
from trainyard.data.tokenization.encoded import Tokens
from unit.preparing import request_for, run, tokens


@pytest.fixture
def parted(tokenizer_path: str) -> dict[str, Any]:
    """Settings by which the corpus is prepared in more than ten parts."""
    return {"tokenizer_path": tokenizer_path, "part_bytes": 500}


def test_the_store_does_not_depend_on_how_the_work_was_divided(tmp_path: Path, corpus_file: Path) -> None:
    whole = run(request_for(tmp_path / "whole", corpus_file))
    divided = run(request_for(tmp_path / "divided", corpus_file, part_bytes=500))
    assert len(list(divided.store.glob("*.arrow"))) > 10
    assert [path.name for path in whole.store.glob("*.arrow")] == ["data-00000-of-00001.arrow"]
    assert tokens(divided) == tokens(whole)
    ours, theirs = TokenStore(divided.store), TokenStore(whole.store)
    assert np.array_equal(ours.hashes, theirs.hashes)
    assert np.array_equal(ours.lengths, theirs.lengths)
    assert ours.summary.sources == theirs.summary.sources == [SourceCounts(40, ours.num_tokens)]
    assert not list(divided.store.glob("part-*"))


def _prepare_and_stop_at(request: DataRequest, batches: int, told: Any) -> None:
    """In a process of its own: encodes so many batches, says so, and hangs in the middle of the next."""
    done = 0

    class Hanging(Encoder):
        def __call__(self, texts: list[str]) -> Tokens:
            nonlocal done
            if done == batches:
                told.send("hanging")
                signal.pause()
            done += 1
            return super().__call__(texts)

    prepare.prepare(request, Hanging, lambda done, total: None)
    told.send("finished")


def _start(request: DataRequest, batches: int) -> Any:
    """A preparation in another process that hangs in the middle of a part, after `batches` whole ones."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_prepare_and_stop_at, args=(request, batches, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == "hanging"
    return process


def _kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_killed_preparation_goes_on_from_its_finished_parts(
    tmp_path: Path, corpus_file: Path, parted: dict[str, Any]
) -> None:
    undisturbed: list[int] = []
    wanted = tokens(run(request_for(tmp_path / "wanted", corpus_file, **parted), undisturbed))
    assert len(undisturbed) > 10
    request = request_for(tmp_path / "out", corpus_file, **parted)
    _kill(_start(request, batches=4))
    assert prepare.find(request) is None  # half of it is not taken for the whole
    (half,) = (tmp_path / "out" / "prepared").glob(".*.parts")
    assert len(list(half.glob("part-*.json"))) == 4
    assert list(half.glob(".data-*.arrow"))  # the file that was being written
    made: list[int] = []
    assert tokens(run(request, made)) == wanted
    assert len(made) == len(undisturbed) - 4
    assert not half.exists()


def test_a_torn_part_is_made_anew(tmp_path: Path, corpus_file: Path, parted: dict[str, Any]) -> None:
    """As a machine that went down may leave it: described, and not whole on the disk."""
    request = request_for(tmp_path / "out", corpus_file, **parted)
    _kill(_start(request, batches=4))
    first = min((tmp_path / "out" / "prepared").glob(".*.parts/data-*.arrow"))
    first.write_bytes(first.read_bytes()[:-10])
    assert tokens(run(request)) == tokens(run(request_for(tmp_path / "whole", corpus_file, **parted)))


def test_two_that_start_together_share_the_work(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str, parted: dict[str, Any]
) -> None:
    """The other holds a part and hangs; this one makes all the others, and takes over that one when it dies."""
    request = request_for(tmp_path / "out", corpus_file, **parted)
    other = _start(request, batches=0)
    made: list[int] = []
    killed_after: list[int] = []
    number_of_parts = len(list(division.all_pieces(request)))

    def report(done: int, total: int) -> None:
        if len(made) == number_of_parts - 1 and other.is_alive():  # nothing left but what the other holds
            killed_after.append(len(made))
            _kill(other)

    prepared = run(request, made, report=report)
    assert killed_after == [number_of_parts - 1]
    assert len(made) == number_of_parts
    assert tokens(prepared) == tokens(run(request_for(tmp_path / "alone", corpus_file, tokenizer_path=tokenizer_path)))


@pytest.mark.parametrize("indices", [(1, 2, 3), (0, 1, 2), (3, 1, 2)])
def test_shares_make_the_whole_and_the_last_publishes(
    tmp_path: Path, corpus_file: Path, tokenizer_path: str, parted: dict[str, Any], indices: tuple[int, ...]
) -> None:
    request = request_for(tmp_path / "out", corpus_file, **parted)
    made: list[int] = []
    for index in indices[:-1]:
        assert prepare.prepare(request, Encoder, lambda done, total: None, share=Share(index, 3)) is None
        assert prepare.find(request) is None
    prepared = run(request, made, share=Share(indices[-1], 3))
    assert len(made) == len(Share(indices[-1], 3).of(len(list(division.all_pieces(request)))))
    assert prepare.find(request) == prepared
    assert tokens(prepared) == tokens(run(request_for(tmp_path / "alone", corpus_file, tokenizer_path=tokenizer_path)))


# ---- a backend that is wrong ----


def test_parts_of_a_backend_that_another_process_disproves_are_made_anew(
    tmp_path: Path, corpus_file: Path, parted: dict[str, Any]
) -> None:
    """The first part is made with gigatoken by a process that dies; the next one finds gigatoken wrong at its start."""
    request = request_for(tmp_path / "out", corpus_file, **parted)
    _kill(_start(request, batches=1))

    class Doubting(Encoder):
        def __init__(self, *args: Any, fast: bool = True):
            super().__init__(*args, fast=False)
            self.reason = "gigatoken gives other ids on this corpus"

    prepared = run(request, encoder=Doubting)
    assert StoreSummary.read(prepared.store).tokenizer_backend == "tokenizers"
    assert StoreSummary.read(prepared.store).backend_reason == "gigatoken gives other ids on this corpus"
