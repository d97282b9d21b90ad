"""pycaffe's ``caffe.coord_map``: how the places of one blob lie on another, for nets of `caffe.net_spec`.

A map is (axis, a, b): place x of the one, along each spatial axis from ``axis`` on, lies at a·x + b of the other.
Convolution and pooling of kernel k (dilated), stride s and padding p have a = 1/s, b = (p - (k - 1)/2) / s;
deconvolution is the inverse. Layers that work element by element keep every place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from caffe.errors import CaffeError
from caffe.net_spec import Function, Top, layers

Map = tuple[int | None, Any, Any]

IDENTITY: Map = (None, 1, 0)

# fmt: off
PASS_THROUGH_LAYERS = (
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "Log", "LRN", "MVN", "Power",
    "PReLU", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH", "Threshold",
)
# fmt: on

LEGACY = frozenset(f"{what}_{side}" for what in ("pad", "kernel", "stride") for side in "hw")


class UndefinedMapException(CaffeError):  # noqa: N818, pycaffe's name
    """The layer has no map of places: an InnerProduct, for instance."""


class AxisMismatchException(CaffeError):  # noqa: N818, pycaffe's name
    """Two layers on the way disagree about where the spatial axes begin."""


class CropError(CaffeError, AssertionError):
    """No crop makes the two blobs lie upon each other (pycaffe has an AssertionError here)."""


def _numbers(value: Any) -> np.ndarray:
    return np.array(value, ndmin=1)


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Axis, stride, kernel (as long as its dilation makes it) and padding of a layer with a window."""
    given = fn.params.get("convolution_param", fn.params.get("pooling_param", fn.params))
    if LEGACY & set(given):
        raise CaffeError(
            f"{fn.type_name}: coordinates cannot be mapped from {', '.join(sorted(LEGACY & set(given)))}; give "
            "kernel_size, stride and pad as lists"
        )
    kernel, dilation = _numbers(given["kernel_size"]), _numbers(given.get("dilation", 1))
    return (
        given.get("axis", 1),
        _numbers(given.get("stride", 1)),
        (kernel - 1) * dilation + 1,
        _numbers(given.get("pad", 0)),
    )


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """Axis and offset of a Crop layer."""
    given = fn.params.get("crop_param", fn.params)
    return given.get("axis", 2), _numbers(given.get("offset", 0))


def coord_map(fn: Function) -> Map:
    """Map from the layer's bottom to its top.

    Raises:
        UndefinedMapException: the layer's type has none.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset  # Crop counts from the first axis it cuts, a map from the channels
    raise UndefinedMapException(f"{fn.type_name} has no map of coordinates")


def compose(base_map: Map, next_map: Map) -> Map:
    """The map that does ``next_map`` first, then ``base_map``.

    Raises:
        AxisMismatchException: their axes differ.
    """
    axis, a, b = base_map
    other, next_a, next_b = next_map
    if None not in (axis, other) and axis != other:
        raise AxisMismatchException(f"spatial axes begin after axis {axis} in one layer and after {other} in another")
    return other if axis is None else axis, a * next_a, a * next_b + b


def inverse(coord_map: Map) -> Map:
    """The map back."""
    axis, a, b = coord_map
    return axis, 1 / a, -b / a


def _mapped_bottoms(top: Top) -> tuple[Top, ...]:
    return top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs  # Crop takes only a size from its second


def _trace(top: Top) -> Iterator[tuple[Top, Map]]:
    """Walk from a top back through layers that have a map; give each blob once, with the map from ``top`` to it."""
    seen: dict[Top, Map] = {top: IDENTITY}
    waiting = [top]
    while waiting:
        top = waiting.pop()
        yield top, seen[top]
        try:
            own = coord_map(top.fn) if top.fn.inputs else IDENTITY
        except UndefinedMapException:
            continue
        for bottom in _mapped_bottoms(top):
            if bottom not in seen:
                seen[bottom] = compose(seen[top], own)
                waiting.append(bottom)


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """Map from places of ``top_from`` to places of ``top_to``, through a blob that both are made of.

    Raises:
        RuntimeError: no chain of spatial layers joins them.
    """
    back = dict(_trace(top_from))
    for top, there in _trace(top_to):
        if top in back:
            return compose(there, inverse(back[top]))
    raise CaffeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Top:
    """Make a Crop layer that cuts ``top_from`` to lie upon ``top_to``.

    Raises:
        CropError: they differ in scale, or the offset is negative or no whole number.
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    if not np.all(a == 1):
        raise CropError(f"scale mismatch on crop (a = {a})")
    if not np.all(b <= 0):
        raise CropError(f"cannot crop negative offset (b = {b})")
    if not np.all(np.round(b) == b):
        raise CropError(f"cannot crop noninteger offset (b = {b})")
    offset = [-int(shift) for shift in _numbers(np.round(b))]
    first = 1 if axis is None else axis
    return layers.Crop(top_from, top_to, crop_param={"axis": first + 1, "offset": offset})  # type: ignore[return-value]
