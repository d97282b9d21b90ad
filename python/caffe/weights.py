"""Weights in and out of a net, matched by layer name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch

from caffe import glog
from caffe.blob import Blob
from caffe.errors import WeightsError
from caffe.layers.base import Layer, describe
from caffe.proto import binary, hdf5, wire
from caffe.proto.caffe_pb2 import NetParameter

if TYPE_CHECKING:
    from caffe.net import Net

Shape = tuple[int, ...]

PIECE = 4 * 2**20
"""Floats copied at a time."""

_RENAME = "Rename the layer in the prototxt to learn it from scratch"


def copy_from(net: Net, path: str) -> None:
    """Copy the weights of ``path`` into the layers of the same name.

    Layers that only the file has are logged as ignored, layers that only the net has keep their values.
    Whether the file is HDF5 is told by its content, as with Caffe.

    Raises:
        WeightsError: a layer has another number of blobs, or a blob another shape.
        FormatError: the file is missing, truncated or not a caffemodel.
    """
    if Path(path).is_file() and h5py.is_hdf5(path):
        load_hdf5(net, path)
        return
    layers = by_name(net)
    for source in binary.read_weights(path):
        if source.name not in layers:
            glog.info("net.cpp:746", f"Ignoring source layer {source.name}")
            continue
        targets = layers[source.name].blobs
        check_layer(path, source, targets)
        for target, blob in zip(targets, source.blobs, strict=True):
            put(target, blob.data)


def by_name(net: Net) -> dict[str, Layer]:
    """The net's layers by name; of several with one name the first, as Caffe looks for them."""
    return {layer.name: layer for layer in reversed(net.wired)}


def check_layer(path: str, source: binary.LayerWeights, targets: Sequence[Blob]) -> None:
    """Check that a layer's weights in the file ``path`` fit the blobs that are to take them.

    Raises:
        WeightsError: they do not.
    """
    if len(targets) != len(source.blobs):
        raise WeightsError(
            f"{path}: Check failed: target_blobs.size() == source_layer.blobs_size() "
            f"({len(targets)} vs. {len(source.blobs)}) Incompatible number of blobs for layer {source.name}. {_RENAME}"
        )
    for i, (target, blob) in enumerate(zip(targets, source.blobs, strict=True)):
        if not _same_shape(blob.shape, target.shape):
            raise _mismatch(path, source.name, i, blob.shape, target.shape)


def _mismatch(path: str, layer: str, i: int, source: Shape, target: Shape) -> WeightsError:
    return WeightsError(
        f"{path}: Cannot copy param {i} weights from layer '{layer}'; shape mismatch.  Source param shape is "
        f"{describe(source)}; target param shape is {describe(target)}. To learn this layer's parameters from scratch "
        "rather than copying from a saved net, rename the layer."
    )


def put(target: Blob, values: np.ndarray) -> None:
    """Copy float values into the blob's own memory, so that who shares it sees them.

    Values mapped from a file are let go piece by piece: loading takes no more memory than the net itself.
    """
    flat, own = values.reshape(-1), target.data_tensor().view(-1)
    with torch.no_grad():
        for start in range(0, flat.size, PIECE):
            piece = flat[start : start + PIECE]
            own[start : start + PIECE].copy_(torch.from_numpy(piece))
            wire.release(piece)


def _same_shape(source: Shape, target: Shape) -> bool:
    """Equal, or equal once both are four axes long, as files from before N-D blobs have them."""
    if len(source) == 4 and len(target) < 4:
        target = (1,) * (4 - len(target)) + target
    return source == target


def share_with(net: Net, other: Net, log: bool = True) -> None:
    """Use the other net's weights in the layers of the same name (test nets do with the train net's).

    Gradients stay apart, and a solver of the net goes on with it: it changes the weights of both.

    Raises:
        WeightsError: as `copy_from`.
    """
    layers = by_name(net)
    for source in other.wired:
        name = source.name
        if name not in layers:
            if log:
                glog.info("net.cpp:678", f"Ignoring source layer {name}")
            continue
        target = layers[name]
        shapes = [[b.shape for b in layer.blobs] for layer in (source, target)]
        if shapes[0] != shapes[1]:
            raise WeightsError(
                f"Cannot share param weights from layer '{name}'; shape mismatch.  Source param shapes are "
                f"{_describe_all(shapes[0])}; target param shapes are {_describe_all(shapes[1])}"
            )
        for mine, theirs in zip(target.blobs, source.blobs, strict=True):
            mine.share_data(theirs)


def _describe_all(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(describe, shapes)) or "none"


def save(net: Net, path: str, with_diff: bool = False) -> None:
    """Write a ``.caffemodel``: the net's layers with their blobs, in the form that BVLC Caffe reads."""
    param = NetParameter(name=net.name, layer=[layer.param for layer in net.wired])
    blobs = [
        [(b.shape, b.data_tensor().cpu().numpy(), b.diff if with_diff else None) for b in layer.blobs]
        for layer in net.wired
    ]
    binary.write_weights(path, param, blobs)


def load_hdf5(net: Net, path: str) -> None:
    """Copy the weights of an HDF5 file, ``/data/<layer>/<i>``, into the layers of the same name.

    A layer of the file may lack a blob that the net's layer shares with another, which has it. A name with a slash
    is a group within a group, as HDF5 has it.

    Raises:
        WeightsError: a layer has another number of blobs, or a blob another shape.
        FormatError: the file is missing or not one of weights.
    """
    owned = {(p.layer, p.index) for p in net.learnable}
    numbers = {layer.name: number for number, layer in enumerate(net.wired)}
    with hdf5.reading(path) as file:
        for name, source in _layers_in(hdf5.group(file, "data", path)):
            if name not in numbers:
                glog.info("net.cpp:801", f"Ignoring source layer {name}")
                continue
            targets = net.wired[numbers[name]].blobs
            missing = [i for i in range(len(targets)) if i not in source and (numbers[name], i) in owned]
            if missing or any(i >= len(targets) for i in source):
                raise WeightsError(
                    f"{path}: Incompatible number of blobs for layer {name}: the file has {len(source)}, the net "
                    f"{len(targets)}. {_RENAME}"
                )
            for i, dataset in source.items():
                if dataset.shape != targets[i].shape:
                    raise _mismatch(path, name, i, dataset.shape, targets[i].shape)
                put(targets[i], dataset[()])


def _layers_in(group: h5py.Group, name: str = "") -> Iterator[tuple[str, dict[int, h5py.Dataset]]]:
    """Names of the layers that a file holds and their blobs by number, those of layers named below others too."""
    blobs = {int(key): each for key, each in group.items() if key.isdigit() and isinstance(each, h5py.Dataset)}
    within = {key: each for key, each in group.items() if isinstance(each, h5py.Group)}
    if name and (blobs or not within):
        yield name, blobs
    for key, each in within.items():
        yield from _layers_in(each, f"{name}/{key}" if name else key)


def check_names(net: Net) -> None:
    """Raise WeightsError where an HDF5 file, which goes by layer names, cannot hold the net's weights."""
    for name, count in Counter(layer.name for layer in net.wired).items():
        if count > 1 or not name:
            raise WeightsError(
                f"HDF5 files go by the layers' names, but {count} layers are named '{name}'. Give each a name of its "
                "own, or save to a .caffemodel (snapshot_format: BINARYPROTO)"
            )


def save_hdf5(net: Net, path: str, with_diff: bool = False) -> None:
    """Write a ``.caffemodel.h5``: ``/data/<layer>/<i>`` and, where asked for, ``/diff/<layer>/<i>``.

    A shared blob's values are written with the layer that owns it, its gradient with each.
    """
    owned = {(p.layer, p.index) for p in net.learnable}
    check_names(net)
    with hdf5.writing(path) as file:
        for number, layer in enumerate(net.wired):
            data = file.require_group(f"data/{layer.name}")
            diff = file.require_group(f"diff/{layer.name}") if with_diff else None
            for i, blob in enumerate(layer.blobs):
                if (number, i) in owned:
                    data[str(i)] = blob.data_tensor().cpu().numpy()
                if diff is not None:
                    diff[str(i)] = blob.diff_tensor().cpu().numpy()
