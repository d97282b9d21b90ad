"""The table of a net's layers: shapes, parameters, rates and costs, without its data and without its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffe.blob import Shape
from caffe.costs import Cost, costs
from caffe.errors import LayerError
from caffe.graph.rules import filter_net
from caffe.net import Net
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, ParamSpec
from caffe.proto.text import read_net
from caffe.tools.cost_table import figure, shapes, table

TITLES = ("layer", "type", "bottoms -> tops", "output", "params", "rates", "FLOPs")


def summarize(path: str, phase: str, batch: int | None = None, item: Shape | None = None) -> str:
    """Make the table of the net in ``path``.

    Args:
        phase: ``TRAIN`` or ``TEST``.
        batch: items in a batch, instead of what data and Input layers say.
        item: shape of one item ([c, h, w] for a picture), instead of what data layers say.

    Raises:
        LayerError: a data layer does not say what it gives, or a layer does not fit its bottoms.
        NetError: the layers do not fit together.
        FormatError: the file is no net.
    """
    param = read_net(path)
    param.state.MergeFrom(NetState(phase=phase))
    wanted = filter_net(param)
    net = Net.from_param(_without_data(wanted, batch, item), torch.device("meta"))
    every = iter(costs(net))  # splits that were put in are among them
    rows = [next(cost for cost in every if cost.name == layer.name) for layer in wanted.layer]
    lines: list[Sequence[str]] = [_row(cost, layer) for cost, layer in zip(rows, wanted.layer, strict=True)]
    flops, parameters = sum(row.flops for row in rows), sum(row.parameters for row in rows)
    lines += [(), ("total", "", "", "", f"{parameters:,}", "", figure(flops))]
    return f"{table(TITLES, lines, left=(0, 1, 2, 3, 5))}\n{figure(4 * parameters)}B of parameters as float32."


def _row(cost: Cost, layer: LayerParameter) -> tuple[str, ...]:
    kind = f"{layer.python_param.module}.{layer.python_param.layer}" if layer.type == "Python" else layer.type
    joints = f"{','.join(layer.bottom)} -> {','.join(layer.top)}".strip()
    rates = " ".join(map(_rates, layer.param))
    parameters = f"{cost.parameters:,}" if cost.parameters else "-"
    return (layer.name, kind, joints, shapes(cost.tops), parameters, rates, figure(cost.flops))


def _rates(spec: ParamSpec) -> str:
    """Print a parameter's name, factor of the rate, and factor of the decay where it has one: ``2/0``."""
    name = f"{spec.name}:" if spec.name else ""
    return f"{name}{spec.lr_mult:g}" + (f"/{spec.decay_mult:g}" if spec.decay_mult != 1 else "")


def _without_data(param: NetParameter, batch: int | None, item: Shape | None) -> NetParameter:
    """Put an Input of the same shapes in the place of each layer that reads, a Silence in that of one that writes."""
    net = NetParameter()
    net.CopyFrom(param)
    for layer in net.layer:
        if layer.type == "HDF5Output":
            layer.type = "Silence"
        elif layer.type in SOURCES:
            size, own = SOURCES[layer.type](layer)
            shape = item or own
            if shape is None:
                raise LayerError(layer.name, f"({layer.type}) does not say what it gives. {CURES[layer.type]}")
            for i in range(len(layer.top)):
                layer.input_param.shape.add(dim=(size, *(() if i else shape)))
            layer.type = "Input"
        if layer.type == "Input" and batch:
            for blob in layer.input_param.shape:
                blob.dim[:1] = [batch]
    return net


def _images(layer: LayerParameter) -> tuple[int, Shape | None]:
    p = layer.image_data_param
    size = (p.new_height, p.new_width) if p.new_height and p.new_width else None
    return p.batch_size, _picture(layer, 3 if p.is_color else 1, size)


def _records(layer: LayerParameter) -> tuple[int, Shape | None]:
    return layer.data_param.batch_size, _picture(layer, 1 if layer.transform_param.force_gray else 3, None)


def _windows(layer: LayerParameter) -> tuple[int, Shape | None]:
    return layer.window_data_param.batch_size, _picture(layer, 3, None)


def _rows(layer: LayerParameter) -> tuple[int, Shape | None]:
    return layer.hdf5_data_param.batch_size, None


def _picture(layer: LayerParameter, channels: int, size: Shape | None) -> Shape | None:
    """Shape after cropping, to ``size`` without; None where neither is known."""
    crop = layer.transform_param.crop_size
    size = (crop, crop) if crop else size
    return (channels, *size) if size else None


SOURCES = {"ImageData": _images, "Data": _records, "WindowData": _windows, "HDF5Data": _rows}
"""Type -> items of a batch, and the shape of one as far as the prototxt tells."""

CURES = {
    "ImageData": "Set crop_size, or new_height and new_width; or give --shape 3,227,227",
    "Data": "Set crop_size, or give --shape 3,227,227 (channels, height, width of its records)",
    "WindowData": "Set crop_size, or give --shape 3,227,227",
    "HDF5Data": "Give --shape with the lengths of a row of its first dataset, for example --shape 3,227,227",
}
"""Type -> what to do where that is not told."""
