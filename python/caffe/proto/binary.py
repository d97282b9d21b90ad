"""Binary messages in files: small ones whole, weights and solver states without a copy of their numbers.

Protobuf turns a repeated float into Python objects; a model of 553 MB must not go that way. A `.caffemodel`
or `.solverstate` is mapped, its numbers become numpy views, and protobuf parses only what is left (see
`caffe.proto.wire`).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from caffe.errors import FormatError, WriteError
from caffe.proto.caffe_pb2 import NetParameter, SolverState
from caffe.proto.upgrade import needs_upgrade, try_upgrade_net, upgrade_net
from caffe.proto.wire import Array, BlobData, put_blobs, take_blobs, take_raw_blobs

__all__ = [
    "Array",
    "BlobData",
    "LayerWeights",
    "cannot_open",
    "read_message",
    "read_state",
    "read_weights",
    "upgrade_weights",
    "whole_file",
    "write_message",
    "write_state",
    "write_weights",
]

M = TypeVar("M", bound=Message)
T = TypeVar("T")

DISGUISES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"<", "a web page, not the file itself; check the link and download it again"),
    (b"\x89HDF", "an HDF5 file; its name must end with .h5"),
    (b"PK\x03\x04", "a ZIP archive or a PyTorch file; unpack or convert it"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
)
"""How files begin that are taken for a binary message by mistake."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that takes no more."""


@dataclass(frozen=True)
class LayerWeights:
    """One layer of a weights file, its name and type as after all upgrades."""

    name: str
    type: str
    blobs: list[BlobData]


def read_message(path: str, message: M) -> M:
    """Parse the file into `message` and return it; FormatError if it is missing, cut or no such message."""
    kind = message.DESCRIPTOR.name
    content = _map(path, kind)
    try:
        message.ParseFromString(content[:])
    except DecodeError as error:
        raise _unreadable(path, kind, content, error) from None
    return message


def write_message(path: str, message: Message) -> None:
    """Write the message; the file appears whole or not at all."""
    with whole_file(path) as file:
        file.write(message.SerializeToString())


def read_weights(path: str) -> list[LayerWeights]:
    """Read a `.caffemodel` of any age, layer by layer in the file's order.

    Arrays are views on a private mapping of the file: changing them does not change the file. Old formats
    are upgraded, with Caffe's log lines. FormatError if the file is missing, cut, or no net.
    """
    net, blobs = _read_skeleton(path, NetParameter(), take_blobs)
    _check_layers(net, path)
    return [
        LayerWeights(layer.name, layer.type, [blobs[place.num] for place in layer.blobs])
        for layer in upgrade_net(net, path).layer
    ]


def write_weights(path: str, net: NetParameter, blobs: Sequence[Sequence[Array]]) -> None:
    """Write `net` as a `.caffemodel`: each layer's parameters and, from `blobs` in the same order, its arrays.

    The bytes are those that protobuf would write, but the numbers go straight from the arrays to the file,
    which appears whole or not at all.
    """
    skeleton = NetParameter()
    skeleton.CopyFrom(net)
    arrays: list[Array | memoryview] = []
    for layer, layer_arrays in zip(skeleton.layer, blobs, strict=True):
        _put_places(layer.blobs, len(arrays), len(layer_arrays))
        arrays.extend(layer_arrays)
    _write_filled(path, skeleton, arrays)


def upgrade_weights(path: str, target: str) -> tuple[bool, bool]:
    """Write the `.caffemodel` of any age at `path` in the current format to `target`, blob for blob the same bytes.

    Gives whether anything was old, and whether all of it could be kept. FormatError if the file is missing,
    cut, or no net.
    """
    net, blobs = _read_skeleton(path, NetParameter(), take_raw_blobs)
    _check_layers(net, path)
    needed = needs_upgrade(net)
    upgraded, complete = try_upgrade_net(net, path)
    _write_filled(target, upgraded, blobs)
    return needed, complete


def _check_layers(net: NetParameter, path: str) -> None:
    if not net.layer and not net.layers:
        raise FormatError(f"Failed to parse NetParameter file: {path} holds no layers; is it a .caffemodel?")


def read_state(path: str) -> tuple[int, str, int, list[np.ndarray]]:
    """Read a `.solverstate`: iteration, path of its weights, current step, history arrays."""
    state, blobs = _read_skeleton(path, SolverState(), take_blobs)
    if not state.HasField("iter"):
        raise FormatError(
            f"Failed to parse SolverState file: {path} holds no iteration; is it a .solverstate? "
            "Weights (.caffemodel) are given with -weights, not -snapshot"
        )
    if isinstance(state.learned_net, bytes):  # what protobuf gives where it is no text
        raise FormatError(f"Failed to parse SolverState file: {path}: the weights' name is no text; it is damaged")
    return state.iter, state.learned_net, state.current_step, [blobs[place.num].data for place in state.history]


def write_state(path: str, iteration: int, learned_net: str, current_step: int, history: Sequence[np.ndarray]) -> None:
    """Write a `.solverstate` of these history arrays; the file appears whole or not at all."""
    state = SolverState(iter=iteration, learned_net=learned_net, current_step=current_step)
    _put_places(state.history, 0, len(history))
    _write_filled(path, state, [(array.shape, array, None) for array in history])


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; it becomes `path` when all went well.

    What a link points to is written, and a device or a pipe as it is.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        cure = "make room" if error.errno in FULL else "is its directory there and writable?"
        raise WriteError(f"Cannot write {path}: {error.strerror or error}; {cure}") from None
    finally:
        if temporary.exists():
            temporary.unlink()


def cannot_open(path: str, error: OSError) -> FormatError:
    """Return the error for a file that is not there or cannot be opened, in Caffe's words."""
    why = f"Couldn't open {path}: {error.strerror}; relative paths start at {Path.cwd()}"
    return FormatError(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path} ({why})")


def _map(path: str, kind: str) -> mmap.mmap:
    """Map the file privately, refusing what cannot be a message."""
    try:
        with Path(path).open("rb") as file:
            passing = b"" if Path(path).is_file() else file.read()  # through a pipe
            size = len(passing) or os.fstat(file.fileno()).st_size
            if not size:
                raise FormatError(f"Failed to parse {kind} file: {path} is empty; copy or download it again")
            # Copy-on-write, because PyTorch warns of arrays that cannot be written to.
            content = mmap.mmap(-1, size) if passing else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            content[: len(passing)] = passing
    except OSError as error:
        raise cannot_open(path, error) from None
    for beginning, what in DISGUISES:
        if content[: len(beginning)] == beginning:
            raise FormatError(f"Failed to parse {kind} file: {path} is {what}")
    return content


def _unreadable(path: str, kind: str, content: mmap.mmap, reason: Exception) -> FormatError:
    is_text = all(byte >= 32 or byte in b"\t\r\n" for byte in content[:256])
    guess = "it is text; is it a prototxt?" if is_text else "it is cut or damaged; copy or download it again"
    return FormatError(f"Failed to parse {kind} file: {path} ({len(content)} bytes): {reason}; {guess}")


def _read_skeleton(
    path: str, message: M, take: Callable[[mmap.mmap, int, int, str, list[T]], bytes]
) -> tuple[M, list[T]]:
    """Read the file as `message` with numbered places for its blobs, and what `take` gives of them."""
    kind = message.DESCRIPTOR.name
    content = _map(path, kind)
    blobs: list[T] = []
    try:
        message.ParseFromString(take(content, 0, len(content), kind, blobs))
    except (DecodeError, ValueError) as error:
        raise _unreadable(path, kind, content, error) from None
    return message, blobs


def _put_places(places: Any, first: int, count: int) -> None:
    """Make the repeated BlobProto field `places` hold the numbers of `count` arrays."""
    del places[:]
    for number in range(first, first + count):
        places.add(num=number)


def _write_filled(path: str, skeleton: Message, arrays: Sequence[Array | memoryview]) -> None:
    pieces = put_blobs(skeleton.SerializeToString(), skeleton.DESCRIPTOR.name, arrays)
    with whole_file(path) as file:
        file.writelines(pieces)
