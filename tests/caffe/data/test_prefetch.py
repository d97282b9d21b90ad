from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from caffe.data.prefetch import Batch, Prefetcher, Reader
from caffe.data.sources import Record
from caffe.data.transform import Transform
from caffe.errors import DataError


class Numbers:
    """A source of pictures 0, 1, 2, ...: picture i is full of i, and so is its label."""

    def __init__(self) -> None:
        self.position = 0
        self.bad: int | None = None
        self.closed = False
        self.reached: dict[int, threading.Event] = {}

    def __len__(self) -> int:
        return 12

    def peek(self) -> int:
        return self.position

    def take(self, rng: np.random.Generator) -> int:
        self.position += 1
        return self.position - 1

    def load(self, token: int) -> Record:
        if token in self.reached:
            self.reached[token].set()
        if token == self.bad:
            raise DataError(f"Could not load {token}")
        return Record(str(token), np.full((1, 6, 6), token, np.uint8), token)

    def state(self) -> dict[str, Any]:
        return {"position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        self.position = state["position"]

    def close(self) -> None:
        self.closed = True


TRANSFORM = Transform(crop=4, random_crop=True, mirror=True)


def make(source: Numbers, seed: int = 0, depth: int = 3) -> Prefetcher[Batch]:
    return Prefetcher(Reader(source, TRANSFORM, 2, np.random.default_rng(seed)), depth)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture
def source() -> Numbers:
    return Numbers()


def test_batches_come_in_order(source: Numbers) -> None:
    prefetcher = make(source)
    for i in range(20):
        batch = prefetcher.next()
        assert batch.labels.tolist() == [2 * i, 2 * i + 1]
        assert batch.pixels.shape == (2, 1, 4, 4)
        assert batch.pixels[1].unique().tolist() == [2 * i + 1]
    prefetcher.close()


def test_nothing_is_read_before_the_first_batch_is_asked_for(source: Numbers) -> None:
    make(source)
    assert source.position == 0
    assert not threads()


def test_it_reads_ahead_by_its_depth_and_no_further(source: Numbers) -> None:
    # batches 1 to 3 are made while nobody asks; batch 4 only after batch 1 is taken
    source.reached = {7: threading.Event(), 9: threading.Event()}
    prefetcher = make(source, depth=3)
    prefetcher.next()
    source.reached[7].wait()
    assert source.position <= 8
    prefetcher.next()
    source.reached[9].wait()
    assert source.position <= 10
    prefetcher.close()


def test_the_state_is_that_of_what_was_consumed(source: Numbers) -> None:
    prefetcher = make(source)
    assert prefetcher.state()["source"] == {"position": 0}
    for i in range(1, 6):
        prefetcher.next()
        assert prefetcher.state()["source"] == {"position": 2 * i}
    prefetcher.close()


def test_a_restored_reader_gives_the_same_batches(source: Numbers) -> None:
    prefetcher = make(source, seed=1)
    for _ in range(3):
        prefetcher.next()
    state = json.loads(json.dumps(prefetcher.state()))
    expected = [prefetcher.next() for _ in range(5)]
    other = make(Numbers(), seed=2)
    other.next()
    for again in (prefetcher, other):  # itself, and a new one that has run already
        again.restore(state)
        assert again.state() == state
        for batch in expected:
            got = again.next()
            assert got.labels.tolist() == batch.labels.tolist()
            assert got.draws.tops.tolist() == batch.draws.tops.tolist()
            assert got.draws.lefts.tolist() == batch.draws.lefts.tolist()
            assert got.draws.mirrors.tolist() == batch.draws.mirrors.tolist()
        again.close()


def test_an_error_reaches_who_asks_for_its_batch_and_can_be_mended(source: Numbers) -> None:
    source.bad = 5
    prefetcher = make(source)
    assert [prefetcher.next().labels.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    for _ in range(2):
        with pytest.raises(DataError, match="Could not load 5"):
            prefetcher.next()
    assert prefetcher.state()["source"] == {"position": 4}
    source.bad = None
    assert prefetcher.next().labels.tolist() == [4, 5]
    prefetcher.close()


def test_a_picture_that_does_not_fit_is_named(source: Numbers) -> None:
    prefetcher = Prefetcher(Reader(source, Transform(crop=7), 2, np.random.default_rng(0)), 3)
    with pytest.raises(DataError, match=r"img_height >= crop_size \(6 vs. 7\) 0 is too small"):
        prefetcher.next()
    prefetcher.close()


def test_close_ends_the_thread_and_closes_the_source(source: Numbers) -> None:
    prefetcher = make(source)
    prefetcher.next()
    assert len(threads()) == 1
    prefetcher.close()
    assert not threads()
    assert source.closed


def test_a_prefetcher_that_nobody_closed_takes_its_thread_along(source: Numbers) -> None:
    prefetcher = make(source)
    prefetcher.next()
    (thread,) = threads()
    del prefetcher
    gc.collect()
    thread.join()
    assert not thread.is_alive()


def test_the_interpreter_ends_while_a_prefetcher_runs(make_pictures: Any) -> None:
    listing, _ = make_pictures([(8, 8)] * 4)
    program = f"""
import numpy as np
from caffe.data.prefetch import Batch, Prefetcher, Reader
from caffe.data.sources import ImageList
from caffe.data.transform import Transform
from caffe.proto.caffe_pb2 import ImageDataParameter
rng = np.random.default_rng(0)
source = ImageList(ImageDataParameter(source={str(listing)!r}), rng)
prefetcher = Prefetcher(Reader(source, Transform(), 2, rng), 4)
print(prefetcher.next().labels.tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[0.0, 1.0]\n"
    assert done.stderr == ""


def test_processes_share_records_and_each_cuts_its_own_crops() -> None:
    """Also after a restoration from the state of process 0, which alone is saved."""

    def reader(rank: int) -> Reader[int]:
        return Reader(Numbers(), TRANSFORM, 2, np.random.default_rng(5), shares=(rank, 3))

    def places(batch: Batch) -> list[list[int]]:
        return [values.tolist() for values in (batch.draws.tops, batch.draws.lefts, batch.draws.mirrors)]

    readers = [reader(rank) for rank in range(3)]
    for start in (0, 6, 12, 18):
        batches = [each.read() for each in readers]
        assert [batch.labels.tolist() for batch in batches] == [[start + k, start + k + 3] for k in range(3)]
    saved = json.loads(json.dumps(readers[0].state()))
    expected = [[each.read() for _ in range(8)] for each in readers]
    again = [reader(rank) for rank in range(3)]
    for each in again:
        each.restore(saved)
    found = [[each.read() for _ in range(8)] for each in again]
    for ours, theirs in zip(found, expected, strict=True):
        assert [batch.labels.tolist() for batch in ours] == [batch.labels.tolist() for batch in theirs]
    for runs in (expected, found):
        cuts = [str([places(batch) for batch in run]) for run in runs]
        assert len(set(cuts)) == 3
    assert [places(batch) for batch in found[0]] == [places(batch) for batch in expected[0]]
