"""Decoded pictures in memory, within a budget that all readers of the process share.

The budget is ``CAFFE_CACHE_MB`` of the environment (0 keeps nothing), else `CACHE_MB` megabytes. When it is
spent, a warning says so once, and further pictures are decoded whenever they are asked for.
"""

from __future__ import annotations

import os
import threading
from typing import ClassVar, Generic, TypeVar

import numpy as np

from caffe import glog
from caffe.errors import DataError

CACHE_MB = 2048

Key = TypeVar("Key")


def limit() -> int:
    """Give the budget in bytes.

    Raises:
        DataError: CAFFE_CACHE_MB is no whole number.
    """
    text = os.environ.get("CAFFE_CACHE_MB", str(CACHE_MB))
    if not text.isdigit():
        raise DataError(f"CAFFE_CACHE_MB must be a whole number of megabytes, it is {text!r}")
    return int(text) * 2**20


class Cache(Generic[Key]):
    """Decoded pictures of one source; may be used from many threads."""

    _lock: ClassVar = threading.RLock()  # a cache may be collected while another holds it
    _used: ClassVar[int] = 0
    _warned: ClassVar[bool] = False

    def __init__(self) -> None:
        self._kept: dict[Key, np.ndarray] = {}
        self._limit = limit()

    def get(self, key: Key) -> np.ndarray | None:
        """Give the picture, or None where it is not kept."""
        return self._kept.get(key)

    def put(self, key: Key, pixels: np.ndarray) -> np.ndarray:
        """Keep the picture if the budget allows; give it back either way."""
        with Cache._lock:
            if key in self._kept:
                return pixels
            if Cache._used + pixels.nbytes <= self._limit:
                self._kept[key] = pixels
                Cache._used += pixels.nbytes
            elif self._limit and not Cache._warned:
                Cache._warned = True
                glog.warning("base_data_layer.cpp:104", self._spent())
        return pixels

    def _spent(self) -> str:
        return (
            f"{Cache._used / 2**20:.0f} MB of decoded pictures are kept, {len(self._kept)} of this source, and that is "
            f"as much as CAFFE_CACHE_MB allows ({self._limit // 2**20}): the others are decoded anew in every epoch. "
            "Where there is more memory, set it higher in the environment"
        )

    @staticmethod
    def used() -> int:
        """Bytes of all pictures that this process keeps."""
        return Cache._used

    def clear(self) -> None:
        """Let go of all pictures."""
        with Cache._lock:
            Cache._used -= sum(pixels.nbytes for pixels in self._kept.values())
            self._kept = {}

    def __del__(self) -> None:
        self.clear()
