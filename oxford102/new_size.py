"""Pictures of another size for a net: its data layers and inputs set to it, and whether its weights still fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError, told
from oxford102.feature_net import input_net
from oxford102.retarget import data_param, heads
from oxford102.runtime import build_net


def set_size(net: Any, path: Path, resize: int | None, crop: int | None) -> None:
    """Let a net take pictures squeezed to `resize` x `resize` pixels and crops of `crop` x `crop` of them.

    None leaves what the net has. Raises ToolError where `crop` is larger than the pictures, where a database or a
    mean picture has the old size, and where a layer that keeps its weights would need others.
    """
    before = caffe_pb2.NetParameter()
    before.CopyFrom(net)
    for layer in net.layer:
        if layer.type in ("ImageData", "Data"):
            _set_data(layer, path, resize, crop)
        elif layer.type == "Input" and crop:
            for shape in layer.input_param.shape:
                shape.dim[2:] = [crop] * len(shape.dim[2:])
    if _side(before) != _side(net):
        _check_weights(before, net, path)
    for layer in before.layer if resize else ():
        if layer.transform_param.mean_file and layer.image_data_param.new_height != resize:
            raise ToolError(f"{path}: mean_file {layer.transform_param.mean_file} has its own size; leave --resize out")


def _check_weights(before: Any, net: Any, path: Path) -> None:
    """Raise ToolError where a layer that keeps its weights would need others."""
    old, new = _weights(before, path), _weights(net, path)
    anew = {head.name for head in heads(net, path)}
    for name in [name for name in old if name not in anew and old[name] != new[name]]:
        raise ToolError(
            f"{path}: layer '{name}' has weights for the net's own crop {_side(before)} only, not for {_side(net)}; "
            "leave the crop as it is, or take a net that ends in global pooling, as SqueezeNet and ResNet50"
        )


def _set_data(layer: Any, path: Path, resize: int | None, crop: int | None) -> None:
    """Set one data layer."""
    param, transform = data_param(layer), layer.transform_param
    if resize and layer.type == "Data":
        raise ToolError(f"{path}: '{layer.name}' reads a database, whose pictures have their size; leave --resize out")
    if resize:
        param.new_height = param.new_width = resize
    if crop:
        transform.crop_size = crop
    if layer.type == "ImageData" and 0 < param.new_height < transform.crop_size:
        raise ToolError(f"{path}: crops of {transform.crop_size} do not fit into pictures of {param.new_height} pixels")


def _side(net: Any) -> int:
    """Height and width of what the first source of a net gives; 0 where the pictures tell it."""
    for layer in net.layer:
        if layer.type == "ImageData":
            return int(layer.transform_param.crop_size or layer.image_data_param.new_height)
        if layer.type == "Data":
            return int(layer.transform_param.crop_size)
        if layer.type == "Input" and layer.input_param.shape:
            return int(layer.input_param.shape[0].dim[-1])
    return 0


def _weights(net: Any, path: Path) -> dict[str, list[tuple[int, ...]]]:
    """{layer: shapes of its weights} of a net in the phase TEST."""
    side = _side(net)
    probe = input_net(net, (1, 3, side, side), (1,), caffe_pb2.TEST, path)
    with told(f"{path} does not take pictures of {side} x {side}", RuntimeError):
        made = build_net(probe)
    return {name: [tuple(blob.shape) for blob in blobs] for name, blobs in made.params.items()}
