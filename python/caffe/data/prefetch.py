"""Batches, made ahead of their use by one background thread and handed out in order.

A `Prefetcher` runs a reader ahead, whatever its batches are; `Reader` makes those of pictures. Each batch carries
the reader's state as of just after it was drawn, so the state of what was consumed can be saved while more is
already made.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch

from caffe.data.on_device import Uploaded, Uploader
from caffe.data.sources import Source, Token
from caffe.data.transform import Draws, Transform, check_batch, draw, empty_batch, mean_like, put
from caffe.errors import DataError


class Stateful(Protocol):
    """A batch, whatever else it holds."""

    @property
    def state(self) -> dict[str, Any]:
        """The reader's state after this batch."""


AnyBatch = TypeVar("AnyBatch", bound=Stateful)
Made = TypeVar("Made", bound=Stateful, covariant=True)
Given = TypeVar("Given")
Got = TypeVar("Got")


class BatchReader(Protocol[Made]):
    """What a `Prefetcher` runs."""

    def read(self) -> Made:
        """Make the next batch."""

    def state(self) -> dict[str, Any]:
        """Where it stands, in plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""

    def close(self) -> None:
        """Let go of files."""


@dataclass(frozen=True)
class Batch:
    """Pictures, transformed for the CPU, or on a GPU, which is to transform them.

    Attributes:
        pixels: [n, c, h, w], float32, or what was uploaded.
        labels: [n], float32, as Caffe's label blob.
        draws: where the crops were cut and which pictures are to be mirrored.
        state: the reader's state after this batch.
    """

    pixels: torch.Tensor | Uploaded
    labels: torch.Tensor
    draws: Draws
    state: dict[str, Any]


DECODERS = min(8, os.cpu_count() or 1)


@cache
def _decoders() -> ThreadPoolExecutor:
    """The threads that decode, for all readers of the process."""
    cv2.setNumThreads(0)  # a picture a thread; OpenCV would split each picture again
    return ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")


def _map(action: Callable[[Given], Got], things: Sequence[Given]) -> list[Got]:
    """Do it to all things on all threads; each takes the next thing when it is done with one.

    One task a thread, not one a thing: waking this thread for each result costs a tenth of decoding.
    """
    results: dict[int, Got] = {}
    todo = enumerate(things)  # which the threads share: its next() cannot be interrupted

    def work() -> None:
        for i, thing in todo:
            results[i] = action(thing)

    tasks = [_decoders().submit(work) for _ in range(DECODERS)]
    wait(tasks)  # for all, even if one fails
    for task in tasks:
        task.result()
    return [results[i] for i in range(len(things))]


class Reader(Generic[Token]):
    """Makes batches from a source: records, chance and pixels come together here.

    ``shares`` are this process's number and how many read: of every so many records it takes its own. With an
    ``uploader`` the pictures are left to a GPU to transform.
    """

    def __init__(
        self,
        source: Source[Token],
        transform: Transform,
        batch_size: int,
        rng: np.random.Generator,
        uploader: Uploader | None = None,
        shares: tuple[int, int] = (0, 1),
    ) -> None:
        self._source = source
        self._transform = transform
        self._batch_size = batch_size
        self._order = self._rng = rng
        self._mine, self._processes = shares
        if self._processes > 1:  # all draw the same order of records, and each its own crops
            self._rng = rng.spawn(self._processes)[self._mine]
        self._uploader = uploader
        self._mean: np.ndarray | None = None
        self._mean_of: tuple[tuple[int, ...], ...] = ()  # shape and strides of the pictures it is for

    def read(self) -> Batch:
        """Make the next batch.

        Raises:
            DataError: a record cannot be read or does not fit the batch; the message names it.
        """
        tokens = [self._source.take(self._order) for _ in range(self._batch_size * self._processes)]
        tokens = tokens[self._mine :: self._processes]
        records = _map(self._source.load, tokens)
        pictures = [record.pixels for record in records]
        shapes = [picture.shape for picture in pictures]
        check_batch(self._transform, shapes, [record.key for record in records])
        draws = draw(self._transform, shapes, self._rng)
        labels = torch.tensor([record.label for record in records], dtype=torch.float32)
        if self._uploader:
            uploaded = self._uploader.upload([record.key for record in records], pictures, labels, draws)
            return Batch(uploaded, labels, draws, self.state())
        return Batch(self._values(pictures, draws), labels, draws, self.state())

    def _values(self, pictures: Sequence[np.ndarray], draws: Draws) -> torch.Tensor:
        transform = self._transform
        batch = empty_batch(pictures, transform.crop, np.dtype(np.float32))
        kind = batch.shape[1:], batch.strides[1:]
        if self._mean_of != kind:
            self._mean, self._mean_of = mean_like(transform, batch), kind
        places = list(zip(draws.tops.tolist(), draws.lefts.tolist(), draws.mirrors.tolist(), strict=True))
        _map(lambda i: put(batch[i], pictures[i], transform, self._mean, places[i]), range(len(pictures)))
        return torch.from_numpy(batch)

    def state(self) -> dict[str, Any]:
        """Source's position and random generator's state, in plain values."""
        state = {"source": self._source.state(), "rng": self._rng.bit_generator.state}
        return state if self._order is self._rng else {**state, "order": self._order.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self._source.restore(state["source"])
        self._order.bit_generator.state = state.get("order", state["rng"])
        if self._order is self._rng or self._mine == 0:
            self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Close the source, and let go of what is on a GPU."""
        self._source.close()
        if self._uploader:
            self._uploader.close()


class Prefetcher(Generic[AnyBatch]):
    """Runs a reader ahead by up to ``depth`` batches, from the first `next` on.

    Raises:
        DataError: ``depth`` is not positive.
    """

    def __init__(self, reader: BatchReader[AnyBatch], depth: int) -> None:
        if depth <= 0:
            raise DataError(f"data_param.prefetch must be 1 or more, it is {depth}: the number of batches made ahead")
        self._reader = reader
        self._depth = depth
        self._state = reader.state()
        self._worker: _Worker[AnyBatch] | None = None

    def next(self) -> AnyBatch:
        """Give the next batch in order.

        Raises:
            Exception: what stopped the reader at this batch. Asked again, it tries this batch again.
        """
        if self._worker is None:
            self._worker = _Worker(self._reader, self._depth)
            # the thread must outlive neither a prefetcher that nobody closed nor the interpreter, which would
            # stop it in the middle of a C++ call and abort
            self._abandoned = weakref.finalize(self, self._worker.stop)
        result = self._worker.next()
        if isinstance(result, Exception):
            self.restore(self._state)
            raise result
        self._state = result.state
        return result

    def state(self) -> dict[str, Any]:
        """The reader's state after the last batch that `next` gave."""
        return self._state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken; what was made ahead is dropped."""
        self._stop()
        self._reader.restore(state)
        self._state = state

    def close(self) -> None:
        """End the thread and close the reader."""
        self._stop()
        self._reader.close()

    def _stop(self) -> None:
        if self._worker is not None:
            self._abandoned()
            self._worker = None


class _Worker(Generic[AnyBatch]):
    """The thread. It knows nothing of the prefetcher, which can so be collected while it runs."""

    def __init__(self, reader: BatchReader[AnyBatch], depth: int) -> None:
        self._reader = reader
        self._room = threading.Semaphore(depth)
        self._made: SimpleQueue[AnyBatch | Exception] = SimpleQueue()
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._room.acquire()
            if self._cancelled:
                return
            try:
                self._made.put(self._reader.read())
            except Exception as problem:  # whatever it is, it belongs to who asks for this batch
                self._made.put(problem)
                return

    def next(self) -> AnyBatch | Exception:
        result = self._made.get()
        self._room.release()
        return result

    def stop(self) -> None:
        self._cancelled = True
        self._room.release()
        if threading.current_thread() is not self._thread:  # where the collector may run
            self._thread.join()
