"""First values of parameter blobs: Caffe's seven fillers.

The scaled ones take n = fan_in, fan_out or their mean (``variance_norm``), with fan_in = count / shape[0]
and fan_out = count / shape[1]; xavier is uniform in ±sqrt(3/n) (Glorot and Bengio 2010), msra gaussian
with standard deviation sqrt(2/n) (He et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from caffe import rng
from caffe.blob import Blob
from caffe.errors import LayerError
from caffe.proto.caffe_pb2 import FillerParameter

Shape = tuple[int, ...]


def fill(blob: Blob, param: FillerParameter, layer: str) -> None:
    """Fill ``blob`` as ``param`` says; one on the device ``meta`` has a shape and no values.

    Raises:
        LayerError: the filler's name is unknown, or it cannot fill a blob of this shape.
    """
    check(param, layer)
    if blob.device.type == "meta":
        return
    try:
        values = FILLERS[param.type](blob.shape, param)
    except ValueError as problem:
        raise LayerError(layer, f"filler {param.type}: {problem}") from problem
    blob.set_data(values.to(blob.device))


def check(param: FillerParameter, layer: str) -> None:
    """Raise LayerError where there is no such filler."""
    if param.type not in FILLERS:
        raise LayerError(layer, f"Unknown filler name: {param.type} (known fillers: {', '.join(sorted(FILLERS))})")
    if param.sparse != -1 and param.type != "gaussian":
        raise LayerError(layer, f"Sparsity not supported by this Filler: {param.type}; only gaussian is sparse")


def _uniform(shape: Shape, low: float, high: float) -> torch.Tensor:
    return torch.empty(shape).uniform_(low, high, generator=rng.generator())


def _normal(shape: Shape, mean: float, std: float) -> torch.Tensor:
    return torch.empty(shape).normal_(mean, std, generator=rng.generator())


def _fan(shape: Shape, param: FillerParameter) -> float:
    """n of the scaled fillers."""
    if not shape or 0 in shape:
        raise ValueError(f"a blob of shape {list(shape)} has no fan-in; use constant, uniform or gaussian")
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {
        FillerParameter.FAN_IN: fan_in,
        FillerParameter.FAN_OUT: fan_out,
        FillerParameter.AVERAGE: (fan_in + fan_out) / 2,
    }[param.variance_norm]


def constant(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Every element is ``value``."""
    return torch.full(shape, param.value, dtype=torch.float32)


def uniform(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Uniform in [``min``, ``max``)."""
    if param.max < param.min:
        raise ValueError(f"max {param.max:g} is below min {param.min:g}")
    return _uniform(shape, param.min, param.max)


def gaussian(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Normal with ``mean`` and ``std``; with ``sparse`` k, about k weights of each output stay non-zero."""
    if param.std < 0:
        raise ValueError(f"std {param.std:g} is negative")
    values = _normal(shape, param.mean, param.std)
    if param.sparse < 0:
        return values
    if not shape or param.sparse > shape[0]:
        raise ValueError(f"sparse {param.sparse} asks for more than shape {list(shape)} can keep")
    keep = torch.full(shape, param.sparse / shape[0])
    return values * torch.bernoulli(keep, generator=rng.generator())


def positive_unitball(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Uniform in [0, 1), then each output's weights are divided by their sum."""
    if not shape:
        raise ValueError("it needs at least one axis")
    values = _uniform(shape, 0, 1)
    rows = values.view(shape[0], -1)
    return (rows / rows.sum(1, keepdim=True)).view(shape)


def xavier(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Uniform in ±sqrt(3 / n)."""
    bound = math.sqrt(3 / _fan(shape, param))
    return _uniform(shape, -bound, bound)


def msra(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Normal with standard deviation sqrt(2 / n)."""
    return _normal(shape, 0, math.sqrt(2 / _fan(shape, param)))


def bilinear(shape: Shape, param: FillerParameter) -> torch.Tensor:
    """Each kernel interpolates bilinearly: for Deconvolution as a learnable upsampling."""
    if len(shape) != 4:
        raise ValueError(f"Blob must be 4 dim., it has shape {list(shape)}")
    if shape[2] != shape[3]:
        raise ValueError(f"Filter must be square, it is {shape[2]}x{shape[3]}")
    f = math.ceil(shape[3] / 2)
    center = (2 * f - 1 - f % 2) / (2 * f)
    line = 1 - (torch.arange(shape[3], dtype=torch.float32) / f - center).abs()
    return torch.outer(line, line).expand(shape).contiguous()


FILLERS: dict[str, Callable[[Shape, FillerParameter], torch.Tensor]] = {
    f.__name__: f for f in (bilinear, constant, gaussian, msra, positive_unitball, uniform, xavier)
}
