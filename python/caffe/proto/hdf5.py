"""HDF5 files of weights and solver states: opened with clear errors, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from caffe.errors import FormatError
from caffe.proto.binary import cannot_open, whole_file


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
    except (OSError, KeyError) as problem:
        raise FormatError(
            f"Check failed: file_hid >= 0 (-1 vs. 0) Couldn't open {path}: {problem}; is it cut, or another file?"
        ) from problem


@contextmanager
def writing(path: str) -> Iterator[h5py.File]:
    """Open for writing; the file appears when all went well."""
    # h5py writes to the same file by its name
    with whole_file(path) as target, h5py.File(target.name, "w") as file:
        yield file


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
        file["learned_net"] = np.bytes_(net.encode())
        file["current_step"] = np.array([current_step], np.int32)
        arrays = file.create_group("history")
        for i, values in enumerate(history):
            arrays[str(i)] = values
