"""Rows of HDF5 files, a batch at a time, for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from caffe.errors import CaffeError, DataError
from caffe.proto.hdf5 import DAMAGED


@dataclass(frozen=True)
class RowBatch:
    """The same rows of every dataset.

    Attributes:
        arrays: [n, ...] each, float32.
        state: the reader's state after this batch.
    """

    arrays: list[np.ndarray]
    state: dict[str, Any]


class HDF5Rows:
    """Reads rows of ``names``, the datasets, from one file after the other; a batch may go across files.

    With ``shuffle`` the files and the rows in each come in a new order each time round. The first file is read
    at once. ``shares`` are this process's number and how many read: of every so many rows it takes its own.

    Raises:
        DataError: a file, or a dataset in it, is not there or not of numbers, or their rows do not match.
    """

    def __init__(
        self,
        files: Sequence[str],
        names: Sequence[str],
        batch_size: int,
        shuffle: bool,
        rng: np.random.Generator,
        shares: tuple[int, int] = (0, 1),
    ) -> None:
        self._files, self._names, self._shuffle, self._rng = files, names, shuffle, rng
        self._mine, self._processes = shares
        self._batch_size = batch_size * self._processes  # of all processes together
        self._round = rng.bit_generator.state  # as this time round the list began
        self._taken = 0  # rows of it
        self._pieces = self._read_on()
        self._rest: list[np.ndarray] = next(self._pieces)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of a row of each dataset."""
        return [array.shape[1:] for array in self._rest]

    def read(self) -> RowBatch:
        """Make the next batch."""
        missing, parts = self._batch_size, []
        while missing:
            if not len(self._rest[0]):
                self._rest = next(self._pieces)
            parts.append([array[:missing] for array in self._rest])
            self._rest = [array[missing:] for array in self._rest]
            missing -= len(parts[-1][0])
            self._taken += len(parts[-1][0])
        try:
            arrays = [np.concatenate(pieces)[self._mine :: self._processes] for pieces in zip(*parts, strict=True)]
        except ValueError as problem:
            raise DataError(f"{', '.join(self._files)} hold rows of different shapes: {problem}") from problem
        return RowBatch(arrays, self.state())

    def state(self) -> dict[str, Any]:
        """Reading position, in plain values."""
        return {"round": self._round, "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on reading from where `state` was taken."""
        self._rng.bit_generator.state = state["round"]
        self._pieces = self._read_on()
        self._rest, skip = next(self._pieces), state["taken"]
        while skip > len(self._rest[0]):
            skip -= len(self._rest[0])
            self._rest = next(self._pieces)
        self._rest = [array[skip:] for array in self._rest]
        self._taken = state["taken"]

    def close(self) -> None:
        """Let go of the rows."""
        self._rest = []

    def _order(self, count: int) -> np.ndarray:
        return self._rng.permutation(count) if self._shuffle else np.arange(count)

    def _read_on(self) -> Iterator[list[np.ndarray]]:
        """All rows of one file after the other, in their order; a lone file is read only once."""
        arrays: list[np.ndarray] = []
        while True:
            self._round, self._taken = self._rng.bit_generator.state, 0
            for number in self._order(len(self._files)):
                if not arrays or len(self._files) > 1:
                    arrays = read_rows(self._files[number], self._names)
                rows = self._order(len(arrays[0]))
                yield [array[rows] for array in arrays]


def read_rows(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Read the datasets ``names`` of a file: [n, ...] each, float32.

    Raises:
        DataError: the file or a dataset is not there, not of numbers, or they differ in their number of rows.
    """
    try:
        with h5py.File(path, "r") as file:
            arrays = [_dataset(file, path, name) for name in names]
    except CaffeError:
        raise
    except DAMAGED as problem:
        raise DataError(f"Failed opening HDF5 file: {path}: {problem}; is it cut, or another file?") from problem
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise DataError(
            f"{path}: Check failed: hdf_blobs_[i]->shape(0) == num: the datasets of all tops must have the same "
            f"number of rows, at least one; {', '.join(names)} have {lengths}"
        )
    return arrays


def _dataset(file: h5py.File, path: str, name: str) -> np.ndarray:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(
            f"{path}: Failed to find HDF5 dataset {name}; the tops must be named like the datasets: {', '.join(file)}"
        )
    if dataset.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name}: Unsupported datatype class: {dataset.dtype}")
    if not dataset.ndim:
        raise DataError(f"{path}: {name}: Input must have at least 1 axis.")
    return np.asarray(dataset[()], np.float32)
