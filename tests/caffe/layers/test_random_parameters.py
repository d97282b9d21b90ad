"""Random parameters and shapes: a layer has the top shapes of Caffe's formulas, or refuses with a CaffeError."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe
from caffe.net import Net
from caffe.proto.caffe_pb2 import TRAIN, NetParameter

Shape = tuple[int, ...]
Draw = Callable[..., Any]


@dataclass(frozen=True)
class Example:
    """One layer; its top shapes, or None where it must refuse."""

    type: str
    bottoms: Sequence[Shape]
    text: str
    expected: Sequence[Shape] | None
    tops: int = 1


def shapes(least: int = 0, most: int = 5, longest: int = 5) -> st.SearchStrategy[Shape]:
    return st.lists(st.integers(1, longest), min_size=least, max_size=most).map(tuple)


def mostly(*values: int) -> st.SearchStrategy[int]:
    """The first of these more often than the last."""
    return st.sampled_from([v for i, v in enumerate(values) for _ in range(2 * (len(values) - i) - 1)])


def fields(**values: object) -> str:
    """Prototxt of the fields that are not None; a list is a repeated field."""
    lines = []
    for name, value in values.items():
        for v in value if isinstance(value, list) else [] if value is None else [value]:
            lines.append(f"{name}: {str(v).lower() if isinstance(v, bool) else v}")
    return " ".join(lines)


def canonical(axis: int, shape: Shape) -> int | None:
    """The axis from the front, or None where there is no such axis."""
    if axis < 0:
        axis += len(shape)
    return axis if 0 <= axis < len(shape) else None


@st.composite
def convolution(draw: Draw, transposed: bool) -> Example:
    spatial_axes = draw(mostly(2, 2, 1, 3, 0, 4))
    shape = (draw(st.integers(1, 2)), draw(mostly(4, 6, 2, 1)), *(draw(st.integers(3, 7)) for _ in range(spatial_axes)))
    lengths = mostly(1, 1, 0, 2)
    kernel = [draw(mostly(3, 2, 1, 4, 0)) for _ in range(draw(mostly(1, 1, 2, 0)))]
    stride, pad, dilation = (
        [draw(mostly(*some)) for _ in range(draw(lengths))] for some in ((1, 2, 3, 0), (0, 1, 2), (1, 2, 0))
    )
    group, outputs, axis = draw(mostly(1, 2, 3, 0)), draw(mostly(4, 6, 2, 3, 0)), draw(mostly(1, 1, -3, 0, 4))
    text = fields(
        kernel_size=kernel, stride=stride, pad=pad, dilation=dilation, group=group, num_output=outputs, axis=axis
    )
    name = "Deconvolution" if transposed else "Convolution"

    def top() -> Sequence[Shape] | None:
        first = canonical(axis, shape)
        if first is None or len(shape) - first - 1 > 3:
            return None
        spatial = shape[first + 1 :]
        geometry = []
        for values, default in ((kernel, None), (stride, 1), (pad, 0), (dilation, 1)):
            values = values or ([] if default is None else [default])
            if len(values) not in (1, len(spatial)):
                return None
            geometry.append(values * (len(spatial) if len(values) == 1 else 1))
        if 0 in (*geometry[0], *geometry[1], *geometry[3], group, outputs) or shape[first] % group or outputs % group:
            return None
        lengths = []
        for n, k, s, p, d in zip(spatial, *geometry, strict=True):
            extent = d * (k - 1) + 1
            lengths.append(s * (n - 1) + extent - 2 * p if transposed else (n + 2 * p - extent) // s + 1)
        return [(*shape[:first], outputs, *lengths)] if all(length > 0 for length in lengths) else None

    return Example(name, [shape], f"convolution_param {{ {text} }}", top())


@st.composite
def pooling(draw: Draw) -> Example:
    shape = tuple(draw(st.integers(1, 7)) for _ in range(draw(mostly(4, 4, 4, 3))))
    kernel, stride, pad = draw(mostly(3, 2, 4, 1, 0)), draw(mostly(1, 2, 3, 0)), draw(mostly(0, 0, 1, 2, 3))
    method, rounding = draw(st.sampled_from(["MAX", "AVE"])), draw(st.sampled_from(["CEIL", "FLOOR"]))
    everywhere = draw(st.sampled_from([False, False, False, True]))
    text = fields(
        pool=method,
        round_mode=rounding,
        global_pooling=everywhere,
        kernel_size=None if everywhere else kernel,
        stride=stride,
        pad=pad,
    )

    def top() -> Sequence[Shape] | None:
        if len(shape) != 4:
            return None
        if everywhere:
            return [(*shape[:2], 1, 1)] if stride == 1 and pad == 0 else None
        if kernel == 0 or stride == 0 or pad >= kernel:
            return None
        lengths = []
        for n in shape[2:]:
            steps = (n + 2 * pad - kernel) / stride
            length = 1 + (math.ceil(steps) if rounding == "CEIL" else math.floor(steps))
            if pad and (length - 1) * stride >= n + pad:
                length -= 1
            lengths.append(length)
        return [(*shape[:2], *lengths)] if min(lengths) > 0 else None

    return Example("Pooling", [shape], f"pooling_param {{ {text} }}", top())


@st.composite
def lrn(draw: Draw) -> Example:
    shape, size = draw(shapes(3, 5)), draw(st.integers(0, 7))
    region = draw(st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]))
    text = fields(local_size=size, norm_region=region)
    return Example("LRN", [shape], f"lrn_param {{ {text} }}", [shape] if size % 2 and len(shape) == 4 else None)


@st.composite
def inner_product(draw: Draw) -> Example:
    shape, outputs, axis = draw(shapes()), draw(st.integers(0, 4)), draw(st.integers(-5, 4))
    text = fields(num_output=outputs, axis=axis, transpose=draw(st.booleans()), bias_term=draw(st.booleans()))
    first = canonical(axis, shape)
    legal = first is not None and outputs > 0
    return Example(
        "InnerProduct", [shape], f"inner_product_param {{ {text} }}", [(*shape[:first], outputs)] if legal else None
    )


@st.composite
def reshape(draw: Draw) -> Example:
    shape, dims = draw(shapes(longest=4)), draw(st.lists(st.sampled_from([-1, 0, 0, 1, 2, 3, 4]), max_size=4))
    axis, replaced = draw(st.sampled_from([None, 0, 1, 2, -1, -2, -3, 6])), draw(st.sampled_from([None, -1, 0, 1, 2]))
    text = fields(axis=axis, num_axes=replaced)
    new = f"shape {{ {fields(dim=dims)} }}"

    def top() -> Sequence[Shape] | None:
        first = axis or 0
        first += len(shape) + 1 if first < 0 else 0
        if not 0 <= first <= len(shape) or dims.count(-1) > 1:
            return None
        end = len(shape) if replaced in (None, -1) else first + int(replaced or 0)
        if end > len(shape) or any(d == 0 and first + i >= len(shape) for i, d in enumerate(dims)):
            return None
        middle = [shape[first + i] if d == 0 else d for i, d in enumerate(dims)]
        result = [*shape[:first], *middle, *shape[end:]]
        if -1 in result:
            rest = -math.prod(result)
            if math.prod(shape) % rest:
                return None
            result[result.index(-1)] = math.prod(shape) // rest
        return [tuple(result)] if math.prod(result) == math.prod(shape) else None

    return Example("Reshape", [shape], f"reshape_param {{ {text} {new} }}", top())


@st.composite
def slicing(draw: Draw) -> Example:
    shape, tops = draw(shapes(longest=8)), draw(st.integers(1, 3))
    points = draw(st.just([]) | st.lists(st.integers(0, 8), max_size=3) | st.just(list(range(1, tops))))
    name, axis = draw(st.sampled_from([("axis", 1), ("axis", 0), ("axis", -1), ("slice_dim", 0), ("slice_dim", 3)]))
    text = fields(slice_point=points, **{name: axis})

    def parts() -> Sequence[Shape] | None:
        along = canonical(axis, shape)
        if along is None:
            return None
        if not points:
            lengths = [shape[along] // tops] * tops if shape[along] % tops == 0 else []
        else:
            lengths = [b - a for a, b in zip([0, *points], [*points, shape[along]], strict=True)]
        if len(lengths) != tops or min(lengths) <= 0:
            return None
        return [(*shape[:along], n, *shape[along + 1 :]) for n in lengths]

    return Example("Slice", [shape], f"slice_param {{ {text} }}", parts(), tops)


@st.composite
def concat(draw: Draw) -> Example:
    first, axis = draw(shapes()), draw(st.integers(-4, 4))
    along = canonical(axis, first)
    bottoms = [first]
    for _ in range(draw(st.integers(0, 2))):
        other = list(first)
        if other:
            other[draw(st.integers(0, len(other) - 1)) if draw(st.booleans()) else along or 0] = draw(st.integers(1, 5))
        bottoms.append(tuple(other) if draw(st.integers(0, 5)) else draw(shapes()))

    def top() -> Sequence[Shape] | None:
        if along is None:
            return None
        rests = {(len(s), s[:along], s[along + 1 :]) for s in bottoms}
        return [(*first[:along], sum(s[along] for s in bottoms), *first[along + 1 :])] if len(rests) == 1 else None

    return Example("Concat", bottoms, f"concat_param {{ axis: {axis} }}", top())


@st.composite
def crop(draw: Draw) -> Example:
    shape = draw(shapes(longest=7))
    reference = tuple(draw(st.integers(1, 4)) for _ in shape) if draw(st.integers(0, 5)) else draw(shapes())
    axis, offsets = draw(st.integers(-3, 3)), draw(st.lists(st.integers(0, 3), max_size=3))

    def top() -> Sequence[Shape] | None:
        start = canonical(axis, shape)
        if start is None or len(reference) < len(shape):
            return None
        cut = len(shape) - start
        if len(offsets) > 1 and len(offsets) != cut:
            return None
        each = offsets if len(offsets) > 1 else (offsets or [0]) * cut
        fits = all(n - o >= r for n, o, r in zip(shape[start:], each, reference[start:], strict=False))
        return [(*shape[:start], *reference[start : len(shape)])] if fits else None

    return Example("Crop", [shape, reference], f"crop_param {{ {fields(axis=axis, offset=offsets)} }}", top())


@st.composite
def tile(draw: Draw) -> Example:
    shape, axis, tiles = draw(shapes()), draw(st.integers(-4, 4)), draw(st.sampled_from([None, -1, 0, 1, 2, 3]))
    along = canonical(axis, shape)
    legal = along is not None and (tiles or 0) > 0
    expected = [tuple(n * (tiles or 0) if i == along else n for i, n in enumerate(shape))] if legal else None
    return Example("Tile", [shape], f"tile_param {{ {fields(axis=axis, tiles=tiles)} }}", expected)


@st.composite
def reduction(draw: Draw) -> Example:
    shape, axis = draw(shapes()), draw(st.integers(-4, 4))
    operation, first = draw(st.sampled_from(["SUM", "ASUM", "SUMSQ", "MEAN"])), canonical(axis, shape)
    text = fields(axis=axis, operation=operation, coeff=draw(st.sampled_from([None, 0, 0.5])))
    return Example("Reduction", [shape], f"reduction_param {{ {text} }}", None if first is None else [shape[:first]])


@st.composite
def flatten(draw: Draw) -> Example:
    shape, axis, end = draw(shapes()), draw(st.integers(-3, 4)), draw(st.integers(-4, 4))
    first, last = canonical(axis, shape), canonical(end, shape)
    legal = first is not None and last is not None and first <= last + 1
    expected = None
    if legal:
        expected = [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])]  # type: ignore[operator]
    return Example("Flatten", [shape], f"flatten_param {{ {fields(axis=axis, end_axis=end)} }}", expected)


@st.composite
def broadcast(draw: Draw, name: str) -> Example:
    shape, axis = draw(shapes()), draw(st.integers(-4, 4))
    covered = draw(st.sampled_from([None, -2, -1, 0, 1, 2]))
    first = canonical(axis, shape)
    second = draw(st.none() | shapes(most=2) | st.just(shape[first:] if first is not None else ()))
    text = fields(axis=axis, num_axes=covered)

    def legal() -> bool:
        if second is not None:
            return second == () or (first is not None and shape[first : first + len(second)] == second)
        count = 1 if covered is None else covered
        return first is not None and count >= -1 and first + max(count, 0) <= len(shape)

    bottoms = [shape] if second is None else [shape, second]
    return Example(name, bottoms, f"{name.lower()}_param {{ {text} }}", [shape] if legal() else None)


STRATEGIES = {
    "Bias": broadcast("Bias"),
    "Concat": concat(),
    "Convolution": convolution(transposed=False),
    "Crop": crop(),
    "Deconvolution": convolution(transposed=True),
    "Flatten": flatten(),
    "InnerProduct": inner_product(),
    "LRN": lrn(),
    "Pooling": pooling(),
    "Reduction": reduction(),
    "Reshape": reshape(),
    "Scale": broadcast("Scale"),
    "Slice": slicing(),
    "Tile": tile(),
}


def build(example: Example) -> Net:
    inputs = "".join(
        f'layer {{ name: "i{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {fields(dim=list(shape))} }} }} }}\n'
        for i, shape in enumerate(example.bottoms)
    )
    names = [f'bottom: "x{i}"' for i in range(len(example.bottoms))] + [f'top: "y{i}"' for i in range(example.tops)]
    layer = f'layer {{ name: "L" type: "{example.type}" {" ".join(names)} {example.text} }}'
    param = text_format.Parse(f"force_backward: true\n{inputs}{layer}", NetParameter())
    param.state.phase = TRAIN
    return Net.from_param(param)


@pytest.mark.parametrize("kind", sorted(STRATEGIES))
def test_shapes_or_a_clear_refusal(kind: str) -> None:
    seen = {"refused": 0, "run": 0}

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(STRATEGIES[kind])
    def check(example: Example) -> None:
        if example.expected is None:
            with pytest.raises(caffe.CaffeError, match="'L'"):
                build(example)
            seen["refused"] += 1
            return
        net = build(example)
        assert [net.blobs[f"y{i}"].shape for i in range(example.tops)] == list(example.expected)
        net.forward()
        assert [net.blobs[f"y{i}"].data.shape for i in range(example.tops)] == list(example.expected)
        for i in range(example.tops):
            net.blobs[f"y{i}"].diff[...] = 1
        net.backward()
        assert all(net.blobs[f"x{i}"].diff.shape == shape for i, shape in enumerate(example.bottoms))
        seen["run"] += 1

    check()
    assert min(seen.values()) >= 5, seen
