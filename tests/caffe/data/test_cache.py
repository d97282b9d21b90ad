from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from caffe.data.cache import Cache
from caffe.errors import DataError

HALF = np.zeros(2**19, np.uint8)  # half a megabyte


@pytest.fixture(autouse=True)
def one_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_CACHE_MB", "1")
    monkeypatch.setattr(Cache, "_used", 0)
    monkeypatch.setattr(Cache, "_warned", False)


def test_it_keeps_what_fits_and_no_more() -> None:
    cache: Cache[int] = Cache()
    for i in range(3):
        assert cache.put(i, HALF) is HALF
    assert [cache.get(i) is HALF for i in range(3)] == [True, True, False]


def test_the_budget_is_shared_and_given_back() -> None:
    first: Cache[int] = Cache()
    second: Cache[int] = Cache()
    first.put(0, HALF)
    first.put(1, HALF)
    second.put(0, HALF)
    assert second.get(0) is None
    first.clear()
    assert first.get(0) is None
    second.put(0, HALF)
    assert second.get(0) is HALF


def test_a_dropped_cache_gives_its_share_back() -> None:
    first: Cache[int] = Cache()
    first.put(0, HALF)
    first.put(1, HALF)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    second: Cache[int] = Cache()
    second.put(0, HALF)
    assert second.get(0) is HALF


def test_the_same_picture_counts_once() -> None:
    cache: Cache[int] = Cache()
    cache.put(0, HALF)
    cache.put(0, HALF)
    cache.put(1, HALF)
    assert cache.get(1) is HALF


def test_it_says_once_that_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    cache: Cache[int] = Cache()
    for i in range(2):
        cache.put(i, HALF)
    assert Cache.used() == 2**20
    assert capsys.readouterr().err == ""
    for i in range(4):
        cache.put(i, HALF)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W")
    assert (
        "1 MB of decoded pictures are kept, 2 of this source, and that is as much as CAFFE_CACHE_MB allows (1)" in line
    )


def test_who_wants_nothing_kept_is_not_warned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    monkeypatch.setenv("CAFFE_CACHE_MB", "0")
    cache: Cache[int] = Cache()
    cache.put(0, HALF)
    assert cache.get(0) is None
    assert capsys.readouterr().err == ""


def test_the_budget_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_CACHE_MB", "2G")
    with pytest.raises(DataError, match="CAFFE_CACHE_MB must be a whole number of megabytes, it is '2G'"):
        Cache()
