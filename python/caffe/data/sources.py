"""Where records come from: a list of picture files, or a database of Datum messages.

A source has two halves. `take` moves on by one record and is called by one thread at a time; it wraps
around at the end, as Caffe does. `load` turns what `take` gave into pixels; it may be called from many
threads at once. Pictures that had to be decoded are kept in memory, so an epoch is
decoded once (see `caffe.data.cache`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from caffe import glog
from caffe.data.cache import Cache
from caffe.data.databases import open_database
from caffe.data.decode import datum_pixels, read_image
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import DataParameter, Datum, ImageDataParameter
from caffe.proto.wire import take_floats

Token = TypeVar("Token")


@dataclass(frozen=True)
class Record:
    """One picture: its ``key`` (path or database key), ``pixels`` [c, h, w] and ``label``."""

    key: str
    pixels: np.ndarray
    label: int


class Source(Protocol[Token]):
    """What a reader asks of a source; a ``Token`` names one record between `take` and `load`."""

    def __len__(self) -> int:
        """Number of records."""

    def peek(self) -> Token:
        """Give the next record's token and stay there."""

    def take(self, rng: np.random.Generator) -> Token:
        """Give the next record's token and move on; ``rng`` shuffles where the source does."""

    def load(self, token: Token) -> Record:
        """Read and decode the record."""

    def state(self) -> dict[str, Any]:
        """Where the source stands, in plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` said."""

    def close(self) -> None:
        """Let go of files and memory."""


def read_list(source: str) -> list[tuple[str, int]]:
    """Read lines ``path label``; the label follows the last space. Blank lines do not count.

    Raises:
        DataError: there is no such file, it is empty, or a line has no whole label.
    """
    try:
        # a path is bytes to the file system, whatever they mean: what is not UTF-8 passes through
        text = Path(source).read_text("utf-8-sig", errors="surrogateescape")
    except OSError as problem:
        raise DataError(f"Check failed: !lines_.empty() File is empty or not there: {problem}") from problem
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        path, space, label = line.rpartition(" ")
        label = label.strip()
        if not (space and re.fullmatch(r"[+-]?[0-9]+(\.0*)?", label)):
            raise DataError(
                f"{source}, line {number}: expected 'path label' with a whole number for a label after the last "
                f"space, got {line.strip()!r}"
            )
        if not -(2**31) <= float(label) < 2**31:
            raise DataError(f"{source}, line {number}: label {label} does not fit into 32 bits")
        entries.append((path, int(float(label))))
    if not entries:
        raise DataError(f"Check failed: !lines_.empty() File is empty: {source} must have lines 'path label'")
    return entries


class ImageList:
    """Pictures named by a list file, as Caffe's ImageData layer reads them."""

    def __init__(self, param: ImageDataParameter, rng: np.random.Generator) -> None:
        if (param.new_height > 0) != (param.new_width > 0):
            raise DataError(
                "Current implementation requires new_height and new_width to be set at the same time: "
                f"they are {param.new_height} and {param.new_width} for the list {param.source}; give both or none"
            )
        self._param = param
        glog.info("image_data_layer.cpp:38", f"Opening file {param.source}")
        self._entries = read_list(param.source)
        self._pictures: Cache[int] = Cache()
        self._position = 0
        self._order: np.ndarray | None = None
        self._shuffled_from: dict[str, Any] | None = None
        if param.shuffle:
            glog.info("image_data_layer.cpp:53", "Shuffling data")
            self._shuffle(rng)
        glog.info("image_data_layer.cpp:63", f"A total of {len(self._entries)} images.")
        if param.rand_skip:
            self._skip(int(rng.integers(param.rand_skip)))

    def __len__(self) -> int:
        return len(self._entries)

    def _skip(self, count: int) -> None:
        glog.info("image_data_layer.cpp:70", f"Skipping first {count} data points.")
        if count >= len(self._entries):
            raise DataError(
                f"Check failed: lines_.size() > skip ({len(self._entries)} vs. {count}) Not enough points to "
                f"skip in {self._param.source}; lower rand_skip {self._param.rand_skip}"
            )
        self._position = count

    def _shuffle(self, rng: np.random.Generator) -> None:
        self._shuffled_from = dict(rng.bit_generator.state)
        self._order = rng.permutation(len(self._entries))

    def peek(self) -> int:
        """Give the number of the next entry of the list."""
        return self._position if self._order is None else int(self._order[self._position])

    def take(self, rng: np.random.Generator) -> int:
        """Give the next entry and move on; a shuffled list is shuffled again at its end."""
        entry = self.peek()
        self._position += 1
        if self._position == len(self._entries):
            self._position = 0
            if self._param.shuffle:
                self._shuffle(rng)
        return entry

    def load(self, token: int) -> Record:
        """Read the picture of an entry."""
        path, label = self._entries[token]
        pixels = self._pictures.get(token)
        if pixels is None:
            p = self._param
            try:
                picture = read_image(p.root_folder + path, p.new_height, p.new_width, p.is_color)
            except DataError as problem:
                raise DataError(
                    f"Check failed: cv_img.data Could not load {path}, a line of {p.source}: {problem}"
                ) from problem
            pixels = self._pictures.put(token, picture.transpose(2, 0, 1))
        return Record(path, pixels, label)

    def state(self) -> dict[str, Any]:
        """Position in the epoch, and what the random generator was like before the epoch's shuffle."""
        return {"position": self._position, "count": len(self), "shuffled_from": self._shuffled_from}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` said.

        Raises:
            DataError: the state is one of a list of another length.
        """
        _check_count(self._param.source, len(self), state)
        self._position = state["position"]
        self._order = None
        if state["shuffled_from"] is not None:
            then = np.random.default_rng()
            then.bit_generator.state = state["shuffled_from"]
            self._shuffle(then)

    def close(self) -> None:
        """Let go of the pictures kept in memory."""
        self._pictures.clear()


def parse_datum(value: bytes, name: str) -> Datum:
    """Parse a record's bytes; ``name`` is for the error."""
    try:
        return Datum.FromString(value)
    except DecodeError as problem:
        raise DataError(f"{name}: the record is no Datum: {problem}") from problem


class Database:
    """Datum records of a database in the order of their keys, as Caffe's Data layer reads them."""

    def __init__(
        self,
        source: str,
        backend: DataParameter.DB = DataParameter.LMDB,
        force_color: bool = False,
        force_gray: bool = False,
    ) -> None:
        self._source = source
        self._force = {"force_color": force_color, "force_gray": force_gray}
        self._database = open_database(source, backend)
        self._count = len(self._database)
        self._stand(0)
        self._pictures: Cache[bytes] = Cache()

    def __len__(self) -> int:
        return self._count

    def _stand(self, position: int) -> None:
        self._position = position
        self._records = self._database.read(position)
        self._next = next(self._records)

    def peek(self) -> tuple[bytes, bytes]:
        """Give the key and value of the next record."""
        return self._next

    def take(self, rng: np.random.Generator) -> tuple[bytes, bytes]:
        """Give the next record and move on; a database is read in order, so nothing is drawn."""
        record = self.peek()
        if self._position + 1 < self._count:
            self._position += 1
            self._next = next(self._records)
        else:
            glog.info("data_layer.cpp:73", "Restarting data prefetching from start.")
            self._stand(0)
        return record

    def load(self, token: tuple[bytes, bytes]) -> Record:
        """Parse the record, and decode it where it is encoded."""
        key = token[0].decode(errors="backslashreplace")
        name = f"{self._source}, record {key}"
        value, floats = take_floats(token[1], Datum.FLOAT_DATA_FIELD_NUMBER)
        datum = parse_datum(value, name)
        pixels = self._pictures.get(token[0]) if datum.encoded else None
        if pixels is None:
            pixels = datum_pixels(datum, name, floats=floats, **self._force)
            if datum.encoded:
                pixels = self._pictures.put(token[0], pixels)
        return Record(key, pixels, datum.label)

    def state(self) -> dict[str, Any]:
        """Position in the epoch."""
        return {"position": self._position, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` said.

        Raises:
            DataError: the state is one of a database of another length.
        """
        _check_count(self._source, self._count, state)
        self._stand(state["position"])

    def close(self) -> None:
        """Close the database and let go of the pictures kept in memory."""
        self._pictures.clear()
        self._database.close()


def _check_count(source: str, count: int, state: dict[str, Any]) -> None:
    if state["count"] != count:
        raise DataError(
            f"{source}: the saved position belongs to {state['count']} records, but there are {count}: "
            "train on with the data of the snapshot, or start from its weights instead"
        )
