"""pycaffe's ``caffe.Timer``: wall-clock milliseconds of work that may still be running on a GPU."""

from __future__ import annotations

import time

import torch

from caffe import device


class Timer:
    """Measures from `start` to `stop`; on a GPU both wait until it has done what it was told."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._seconds = 0.0

    @staticmethod
    def _now() -> float:
        if device.current().type == "cuda":
            torch.cuda.synchronize(device.current())
        return time.perf_counter()

    def start(self) -> None:
        """Start anew; a timer that runs goes on."""
        if self._started is None:
            self._started = self._now()

    def stop(self) -> None:
        """Stop; a timer that does not run stays as it is."""
        if self._started is not None:
            self._seconds = self._now() - self._started
            self._started = None

    @property
    def ms(self) -> float:
        """Milliseconds between the last start and stop; a timer that runs is stopped first."""
        self.stop()
        return 1000 * self._seconds
