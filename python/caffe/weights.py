"""Weights in and out of a net, matched by layer name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from caffe import glog
from caffe.blob import Blob
from caffe.errors import WeightsError
from caffe.layers.base import describe
from caffe.proto import binary
from caffe.proto.caffe_pb2 import NetParameter

if TYPE_CHECKING:
    from caffe.net import Net

Shape = tuple[int, ...]


def copy_from(net: Net, path: str) -> None:
    """Copy the weights of ``path`` into the layers of the same name.

    Layers that only the file has are logged as ignored, layers that only the net has keep their values.

    Raises:
        WeightsError: a layer has another number of blobs, or a blob another shape.
        FormatError: the file is missing, truncated or not a caffemodel.
    """
    for source in binary.read_weights(path):
        if source.name not in net.layer_dict:
            glog.info("net.cpp:746", f"Ignoring source layer {source.name}")
            continue
        targets = net.layer_dict[source.name].blobs
        if len(targets) != len(source.blobs):
            raise WeightsError(
                f"{path}: Check failed: target_blobs.size() == source_layer.blobs_size() "
                f"({len(targets)} vs. {len(source.blobs)}) Incompatible number of blobs for layer {source.name}. "
                "Rename the layer in the prototxt to learn it from scratch"
            )
        for i, (target, blob) in enumerate(zip(targets, source.blobs, strict=True)):
            if not _same_shape(blob.shape, target.shape):
                raise WeightsError(
                    f"{path}: Cannot copy param {i} weights from layer '{source.name}'; shape mismatch.  Source "
                    f"param shape is {describe(blob.shape)}; target param shape is {describe(target.shape)}. "
                    "To learn this layer's parameters from scratch rather than copying from a saved net, rename "
                    "the layer."
                )
            put(target, blob.data)


def put(target: Blob, values: object) -> None:
    """Copy float values (any array) into the blob's own memory, so that who shares it sees them."""
    with torch.no_grad():
        target.data_tensor().copy_(torch.as_tensor(values).view(target.shape))


def _same_shape(source: Shape, target: Shape) -> bool:
    """Equal, or equal once both are four axes long, as files from before N-D blobs have them."""
    if len(source) == 4 and len(target) < 4:
        target = (1,) * (4 - len(target)) + target
    return source == target


def share_with(net: Net, other: Net) -> None:
    """Use the other net's parameter blobs in the layers of the same name (test nets do with the train net's).

    Raises:
        WeightsError: as `copy_from`.
    """
    for name, source in other.layer_dict.items():
        if name not in net.layer_dict:
            glog.info("net.cpp:676", f"Ignoring source layer {name}")
            continue
        target = net.layer_dict[name]
        shapes = [[b.shape for b in layer.blobs] for layer in (source, target)]
        if shapes[0] != shapes[1]:
            raise WeightsError(
                f"Cannot share param weights from layer '{name}'; shape mismatch.  Source param shapes are "
                f"{_describe_all(shapes[0])}; target param shapes are {_describe_all(shapes[1])}"
            )
        target.blobs[:] = source.blobs


def _describe_all(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(describe, shapes)) or "none"


def save(net: Net, path: str, with_diff: bool = False) -> None:
    """Write a ``.caffemodel``: the net's layers with their blobs, in the form that BVLC Caffe reads."""
    param = NetParameter(name=net.name, layer=[layer.param for layer in net.layers])
    blobs = {
        layer.name: [(b.shape, b.data_tensor().cpu().numpy(), b.diff if with_diff else None) for b in layer.blobs]
        for layer in net.layers
        if layer.blobs
    }
    binary.write_weights(path, param, blobs)
