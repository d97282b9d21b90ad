"""Blobs on the wire: take their numbers out of a serialized message and put them in, without a copy.

A *skeleton* is a serialized NetParameter or SolverState in which each blob is a BlobProto that holds only
its place in a list (in the field ``num``). Protobuf parses and writes skeletons; the numbers never become
Python objects. The wire format is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from caffe.proto.caffe_pb2 import BlobProto, BlobShape

T = TypeVar("T")
Buffer = bytes | mmap.mmap
Array = tuple[Sequence[int], np.ndarray, np.ndarray | None]
"""What is written of one blob: shape, float32 data, float32 diff or None."""

VARINT, FIXED64, LENGTH, _, _, FIXED32 = range(6)
TAG = {"data": 5, "diff": 6, "shape": 7}

PATHS: dict[str, dict[int, str]] = {
    "NetParameter": {2: "V1LayerParameter", 100: "LayerParameter"},
    "LayerParameter": {7: "BlobProto"},
    "V1LayerParameter": {1: "V0LayerParameter", 6: "BlobProto"},
    "V0LayerParameter": {50: "BlobProto"},
    "SolverState": {3: "BlobProto"},
}
"""Message -> number and type of each field that leads to a blob."""

NUMBERS: dict[int, np.dtype] = {
    5: np.dtype("<f4"),
    6: np.dtype("<f4"),
    8: np.dtype("<f8"),
    9: np.dtype("<f8"),
}
"""BlobProto's fields data, diff, double_data and double_diff."""


@dataclass(frozen=True)
class BlobData:
    """One blob of a file: float32 arrays of ``shape``; views on the file where it holds them in one piece."""

    shape: tuple[int, ...]
    data: np.ndarray
    diff: np.ndarray | None


class Field(NamedTuple):
    """One field on the wire: its tag starts at ``start``, its value is the bytes [``begin``, ``end``)."""

    number: int
    wire: int
    start: int
    begin: int
    end: int


def take_blobs(content: Buffer, start: int, end: int, kind: str, blobs: list[BlobData]) -> bytes:
    """Return the skeleton of the `kind` message in [start, end) and append its blobs to `blobs`.

    ValueError if the bytes are no such message or stop within one.
    """
    return _take(content, start, end, kind, blobs, read_blob)


def take_raw_blobs(content: Buffer, start: int, end: int, kind: str, blobs: list[memoryview]) -> bytes:
    """Do as `take_blobs`, but append each blob as the bytes of its BlobProto, unread and without a copy."""
    return _take(content, start, end, kind, blobs, lambda raw, begin, stop: memoryview(raw)[begin:stop])


def _take(
    content: Buffer, start: int, end: int, kind: str, blobs: list[T], read: Callable[[Buffer, int, int], T]
) -> bytes:
    parts: list[bytes] = []
    for field in _fields(content, start, end):
        inner = PATHS[kind].get(field.number) if field.wire == LENGTH else None
        if inner is None:
            parts.append(content[field.start : field.end])
            continue
        if inner == "BlobProto":
            body = BlobProto(num=len(blobs)).SerializeToString()
            blobs.append(read(content, field.begin, field.end))
        else:
            body = _take(content, field.begin, field.end, inner, blobs, read)
        parts += [_prefix(field.number, len(body)), body]
    return b"".join(parts)


def release(view: np.ndarray) -> None:
    """Give back the memory of a view on a mapped file; read again, it comes from the file again."""
    base: object = view
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, mmap.mmap) or not hasattr(base, "madvise"):
        return
    begin = view.ctypes.data - np.frombuffer(base, np.uint8, 1).ctypes.data
    first = begin // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, begin + view.nbytes - first)


def put_blobs(skeleton: bytes, kind: str, arrays: Sequence[Array | memoryview]) -> list[bytes | memoryview]:
    """Return the pieces of the serialized `kind` message whose numbered places are filled.

    `arrays` holds for each place numbers, or a blob's bytes from `take_raw_blobs`.
    """
    parts: list[bytes | memoryview] = []
    for field in _fields(skeleton, 0, len(skeleton)):
        value = skeleton[field.begin : field.end]
        inner = PATHS[kind].get(field.number)
        if inner is None:
            parts.append(skeleton[field.start : field.end])
            continue
        if inner == "BlobProto":
            array = arrays[BlobProto.FromString(value).num]
            body = [array] if isinstance(array, memoryview) else _blob_pieces(array)
        else:
            body = put_blobs(value, inner, arrays)
        parts += [_prefix(field.number, sum(len(piece) for piece in body)), *body]
    return parts


def read_blob(content: Buffer, start: int, end: int) -> BlobData:
    """Read the BlobProto in [start, end): packed, in several packs, one by one, or in double precision."""
    chunks: dict[int, list[np.ndarray]] = {number: [] for number in NUMBERS}
    rest: list[bytes] = []
    position = start
    while position < end:
        field = _field(content, position, end)
        position = field.end
        if field.number not in NUMBERS:
            rest.append(content[field.start : field.end])
        elif field.wire == LENGTH:
            chunks[field.number].append(_packed(content, field))
        else:
            chunk, position = _unpacked(content, field, end)
            chunks[field.number].append(chunk)
    shape = blob_shape(BlobProto.FromString(b"".join(rest)))
    data = _join(chunks[8] or chunks[5])
    diff = _join(chunks[9] or chunks[6])
    for name, array in (("data", data), ("diff", diff)):
        if array.size != math.prod(shape) and (name == "data" or array.size):
            raise ValueError(f"Check failed: count_ == proto.{name}_size() ({math.prod(shape)} vs. {array.size})")
    return BlobData(shape, data.reshape(shape), diff.reshape(shape) if diff.size else None)


def blob_shape(blob: BlobProto) -> tuple[int, ...]:
    """Return the shape of a BlobProto; the four old fields go before the new one, as in Caffe."""
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return blob.num, blob.channels, blob.height, blob.width
    return tuple(blob.shape.dim)


def take_floats(content: bytes, number: int) -> tuple[bytes, np.ndarray | None]:
    """Return a message without its field `number`, and the field's float32 numbers where they are packed in one piece.

    Else return `content` as it is, and None: protobuf reads it, or says what is wrong with it.
    """
    found: Field | None = None
    try:
        for field in _fields(content, 0, len(content)):
            if field.number != number:
                continue
            if found or field.wire != LENGTH or (field.end - field.begin) % 4:
                return content, None
            found = field
    except ValueError:
        return content, None
    if not found:
        return content, None
    floats = np.frombuffer(content, "<f4", (found.end - found.begin) // 4, found.begin)
    return content[: found.start] + content[found.end :], floats


def _fields(content: Buffer, start: int, end: int) -> Iterator[Field]:
    while start < end:
        field = _field(content, start, end)
        yield field
        start = field.end


def _field(content: Buffer, start: int, end: int) -> Field:
    tag, begin = _read_varint(content, start, end)
    number, wire = tag >> 3, tag & 7
    if wire == VARINT:
        _, stop = _read_varint(content, begin, end)
    elif wire == LENGTH:
        length, begin = _read_varint(content, begin, end)
        stop = begin + length
    elif wire in (FIXED32, FIXED64):
        stop = begin + (4 if wire == FIXED32 else 8)
    else:
        raise ValueError(f"no field of a message at byte {start}")
    if not number or stop > end:
        raise ValueError(f"field {number} at byte {start} should end at byte {stop}, its message ends at {end}")
    return Field(number, wire, start, begin, stop)


def _read_varint(content: Buffer, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"a number does not end at byte {position}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _prefix(number: int, length: int) -> bytes:
    return _varint(number << 3 | LENGTH) + _varint(length)


def _packed(content: Buffer, field: Field) -> np.ndarray:
    dtype = NUMBERS[field.number]
    count, left_over = divmod(field.end - field.begin, dtype.itemsize)
    if left_over:
        raise ValueError(f"the numbers of a blob at byte {field.begin} end within a number")
    return np.frombuffer(content, dtype, count, field.begin)


def _unpacked(content: Buffer, first: Field, end: int) -> tuple[np.ndarray, int]:
    """Return the run of numbers that have a tag each, as from 2013, and where it ends."""
    dtype = NUMBERS[first.number]
    step = 1 + dtype.itemsize
    if first.end - first.start != step:
        raise ValueError(f"field {first.number} of a blob at byte {first.start} is not a {dtype.name}")
    count = (end - first.start) // step
    rows = np.frombuffer(content, np.uint8, count * step, first.start).reshape(count, step)
    others = np.flatnonzero(rows[:, 0] != rows[0, 0])
    run = int(others[0]) if others.size else count
    return rows[:run, 1:].copy().view(dtype).reshape(-1), first.start + run * step


def _join(chunks: list[np.ndarray]) -> np.ndarray:
    """Return one float32 array; a view if there is one float32 chunk."""
    joined = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    return joined.astype(np.float32, copy=False)


def _blob_pieces(array: Array) -> list[bytes | memoryview]:
    shape, data, diff = array
    pieces: list[bytes | memoryview] = []
    for name, values in (("data", data), ("diff", diff)):
        if values is None or not values.size:
            continue
        if values.size != math.prod(shape):
            raise ValueError(f"{name} of {values.size} numbers for a blob of shape {tuple(shape)}")
        numbers = np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)
        pieces += [_prefix(TAG[name], numbers.size), numbers.data]
    if len(shape):
        body = BlobShape(dim=shape).SerializeToString()
        pieces += [_prefix(TAG["shape"], len(body)), body]
    return pieces
