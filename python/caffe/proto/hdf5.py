"""HDF5 files of weights and solver states: opened with clear errors, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedRandom, BytesIO, RawIOBase
from pathlib import Path

import h5py
import numpy as np

from caffe.errors import CaffeError, FormatError
from caffe.proto.binary import cannot_open, whole_file

DAMAGED = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)
"""What h5py raises on a file that is cut or damaged, and others on values of a kind that they do not expect."""


@contextmanager
def reading(path: str) -> Iterator[h5py.File]:
    """Open for reading.

    Raises:
        FormatError: the file is missing, damaged or no HDF5.
    """
    try:
        Path(path).open("rb").close()
    except OSError as problem:
        raise cannot_open(path, problem) from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CaffeError:
        raise
    except DAMAGED as problem:
        raise FormatError(
            f"Check failed: file_hid >= 0 (-1 vs. 0) Couldn't open {path}: {problem}; is it cut, or another file?"
        ) from problem


@contextmanager
def writing(path: str) -> Iterator[h5py.File]:
    """Open for writing; the file appears when all went well.

    Raises:
        WriteError: the disk is full, or there is no folder for it.
    """
    with whole_file(path) as target:
        # unbuffered: nothing but `write` can fail; in memory for a device or a pipe, where there is no going back
        room = target.raw if isinstance(target, BufferedRandom) else BytesIO()
        disk = _Disk(room)
        with h5py.File(disk, "w") as file:
            yield file
        disk.check()
        if isinstance(room, BytesIO):
            target.write(room.getbuffer())


class _Disk:
    """A file for HDF5's library, which ends the process where a write fails: it is told of none, `check` tells."""

    def __init__(self, file: RawIOBase | BytesIO) -> None:
        self._file = file
        self._problem: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell
        self.truncate, self.flush = file.truncate, file.flush

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._problem is not None:
            raise self._problem

    def write(self, values: memoryview) -> int:
        """Write all, or nothing any more where that failed once."""
        size, done = values.nbytes, 0
        try:
            while done < size and self._problem is None:
                done += self._file.write(values[done:]) or 0
        except OSError as problem:
            self._problem = problem
        return size


def group(file: h5py.File, name: str, path: str) -> h5py.Group:
    """Give a group of the file; FormatError where it is not there."""
    found = file.get(name)
    if not isinstance(found, h5py.Group):
        raise FormatError(f"Error reading {name} from {path}: the HDF5 file has no such group; is it the right file?")
    return found


def read_state(path: str) -> tuple[int, str, int, list[np.ndarray]]:
    """Read a ``.solverstate.h5``: iteration, path of its weights ("" without), current step, history arrays."""
    with reading(path) as file:
        if "iter" not in file:
            raise FormatError(
                f"Failed to load int dataset with name iter from {path}: it holds no iteration; is it a "
                ".solverstate.h5? Weights are given with -weights, not -snapshot"
            )
        history = group(file, "history", path)
        arrays = [history[str(i)][()] for i in range(len(history))]
        net = file["learned_net"].asstr()[()] if "learned_net" in file else ""
        return int(file["iter"][0]), net, int(file["current_step"][0]), arrays


def write_state(path: str, iteration: int, net: str, current_step: int, history: Sequence[np.ndarray]) -> None:
    """Write a ``.solverstate.h5``, laid out as BVLC Caffe's."""
    with writing(path) as file:
        file["iter"] = np.array([iteration], np.int32)
        _write_text(file, "learned_net", net.encode())
        file["current_step"] = np.array([current_step], np.int32)
        arrays = file.create_group("history")
        for i, values in enumerate(history):
            arrays[str(i)] = values


def _write_text(file: h5py.File, name: str, text: bytes) -> None:
    """Write a string with the zero at its end that BVLC Caffe, which reads it as it lies there, needs."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(text) + 1)
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    place = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    place.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(text, f"S{len(text) + 1}"))
