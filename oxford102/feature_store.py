"""Rows of features on disk, as the layers Data and HDF5Data read them: an LMDB of Datums, or HDF5 files in a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import lmdb
import numpy as np
from numpy.typing import NDArray

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError

PAGE = 4096  # bytes: an LMDB's records begin on pages of their own
FILE = 1 << 28  # bytes of features in one HDF5 file; BVLC Caffe reads at most 2**31 numbers of one


class Row(NamedTuple):
    """The features of one crop, of any shape, its label, and its place in the order of reading."""

    place: int
    features: NDArray[np.float32]
    label: int


Writer = Callable[[Iterable[Row]], None]
"""Writes rows, in whatever order they come."""


def disk_size(rows: int, shape: tuple[int, ...], hdf5: bool) -> int:
    """Bytes that so many rows of features of a shape take on disk."""
    row = 4 * int(np.prod(shape))
    return rows * (row + 4 if hdf5 else -(-(row + 64) // PAGE) * PAGE)


@contextmanager
def lmdb_writer(path: Path, rows: int, shape: tuple[int, ...]) -> Iterator[Writer]:
    """An LMDB at `path`; raises ToolError where the features have more axes than a Datum."""
    if len(shape) > 3:
        raise ToolError(f"a Datum has channels, height and width, the features are {shape}; store them with --hdf5")
    channels, height, width = (*shape, 1, 1, 1)[:3]
    with lmdb.open(str(path), map_size=2 * disk_size(rows, shape, False) + (1 << 26), sync=False) as environment:

        def write(some: Iterable[Row]) -> None:
            with environment.begin(write=True) as transaction:
                for row in some:
                    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=row.label)
                    transaction.put(f"{row.place:08d}".encode(), datum.SerializeToString() + packed(row.features))

        yield write
        environment.sync(True)
    (path / "lock.mdb").unlink(missing_ok=True)


def packed(values: NDArray[np.float32]) -> bytes:
    """A Datum's float_data on the wire, as one packed field; protobuf's own way takes 5 bytes a number, and long.

    A field of bytes differs from it by its tag alone.
    """
    as_bytes = caffe_pb2.Datum(data=values.astype("<f4").tobytes()).SerializeToString()
    return b"\x32" + as_bytes[1:]  # field 6, of a length, for field 4, of a length


@contextmanager
def hdf5_writer(path: Path, rows: int, shape: tuple[int, ...], tops: tuple[str, str]) -> Iterator[Writer]:
    """HDF5 files beside the list `path` of their names, with the features and labels as datasets `tops`."""
    each = max(1, FILE // (4 * int(np.prod(shape))))
    names = [f"{path.name.split('.')[0]}_{number:03d}.h5" for number in range(-(-rows // each))]
    with ExitStack() as stack:
        files = [stack.enter_context(h5py.File(path.with_name(name), "w")) for name in names]
        sets: list[tuple[Any, Any]] = []
        for number, file in enumerate(files):
            length = min(each, rows - number * each)
            sets.append(
                (file.create_dataset(tops[0], (length, *shape), "f4"), file.create_dataset(tops[1], length, "f4"))
            )

        def write(some: Iterable[Row]) -> None:
            for row in some:
                features, labels = sets[row.place // each]
                features[row.place % each], labels[row.place % each] = row.features, row.label

        yield write
    path.write_text("".join(f"{name}\n" for name in names))
