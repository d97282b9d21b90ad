"""Deconvolution, Im2col, SPP and Crop against naive loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import caffe
from caffe.errors import LayerError

MakeLayer = Callable[..., caffe.Net]
Shape = tuple[int, ...]

FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'


BEYOND = 4
"""Zeros at a picture's far sides, into which a kernel may stand out."""


def random(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def window_count(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Caffe's count of windows: C's division, which rounds toward zero."""
    spread = size + 2 * pad - dilation * (kernel - 1) - 1
    return (spread // stride if spread >= 0 else -(-spread // stride)) + 1


@pytest.mark.parametrize(
    ("shape", "text", "kernel", "stride", "pad"),
    [
        ((2, 3, 3, 6), "kernel_size: 4 stride: 2", (4, 4), (2, 2), (0, 0)),
        ((2, 3, 2, 2), "kernel_size: 6 stride: 3 pad: 1", (6, 6), (3, 3), (1, 1)),
        ((2, 3, 5, 3), "kernel_h: 3 kernel_w: 6 stride_h: 1 stride_w: 4", (3, 6), (1, 4), (0, 0)),
    ],
)
def test_convolution_with_a_kernel_that_stands_out(
    make_layer: MakeLayer, shape: Shape, text: str, kernel: Shape, stride: Shape, pad: Shape
) -> None:
    """A kernel larger than the picture by less than a stride sees zeros beyond the far sides, as in Caffe."""
    x = random(*shape)
    net = make_layer("Convolution", [x], f"convolution_param {{ num_output: 5 {text} {FILL} }}")
    net.forward()
    weight, bias = (b.data for b in net.params["L"])
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p + BEYOND) for p in pad)])
    sizes = [window_count(n, k, s, p, 1) for n, k, s, p in zip(shape[2:], kernel, stride, pad, strict=True)]
    top, grad = net.blobs["y0"], np.zeros_like(padded)
    expected = np.zeros((shape[0], 5, *sizes))
    top.diff[...] = random(*expected.shape, seed=2)
    for n, o, i, j in np.ndindex(*expected.shape):
        h, w = i * stride[0], j * stride[1]
        window = (n, slice(None), slice(h, h + kernel[0]), slice(w, w + kernel[1]))
        expected[n, o, i, j] = (padded[window] * weight[o]).sum() + bias[o]
        grad[window] += weight[o] * top.diff[n, o, i, j]
    np.testing.assert_allclose(top.data, expected, rtol=1e-4, atol=1e-5)
    net.backward()
    inner = grad[:, :, pad[0] : pad[0] + shape[2], pad[1] : pad[1] + shape[3]]
    np.testing.assert_allclose(net.blobs["x0"].diff, inner, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("type_", ["Convolution", "Im2col"])
def test_a_kernel_that_stands_out_by_a_stride_is_refused(make_layer: MakeLayer, type_: str) -> None:
    with pytest.raises(LayerError, match=r"leaves nothing for kernel \[5, 5\]"):
        make_layer(type_, [random(1, 1, 3, 9)], "convolution_param { num_output: 1 kernel_size: 5 stride: 2 }")


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 1), ((2, 3, 4), 2)])
def test_without_spatial_axes_it_is_an_inner_product_a_group(
    make_layer: MakeLayer, type_: str, shape: Shape, axis: int
) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    net = make_layer(
        type_,
        [x],
        f"convolution_param {{ num_output: 6 group: 2 axis: {axis} weight_filler {{ type: 'gaussian' std: 1 }} "
        "bias_filler { type: 'gaussian' std: 1 } }",
    )
    weight, bias = (blob.data for blob in net.params["L"])
    halves = [w.T if type_ == "Convolution" else w for w in np.split(weight, 2)]
    expected = np.concatenate([part @ w for part, w in zip(np.split(x, 2, axis=-1), halves, strict=True)], -1) + bias
    np.testing.assert_allclose(net.forward()["y0"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "kernel", "stride", "pad", "dilation", "group"),
    [
        ("kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1), 1),
        ("kernel_size: 3 stride: 2 pad: 1 group: 2", (3, 3), (2, 2), (1, 1), (1, 1), 2),
        ("kernel_size: 2 dilation: 3 dilation: 2 group: 4", (2, 2), (1, 1), (0, 0), (3, 2), 4),
        ("kernel_h: 4 kernel_w: 2 stride_h: 3 stride_w: 1 pad_h: 2 pad_w: 1", (4, 2), (3, 1), (2, 1), (1, 1), 1),
        ("kernel_size: 2 dilation: 2 stride: 2 pad: 2", (2, 2), (2, 2), (2, 2), (2, 2), 1),
    ],
)
def test_deconvolution_spreads_each_value(
    make_layer: MakeLayer, text: str, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, group: int
) -> None:
    x = random(2, 4, 4, 5)
    net = make_layer("Deconvolution", [x], f"convolution_param {{ num_output: 8 {text} {FILL} }}")
    net.forward()
    weight, bias = (b.data for b in net.params["L"])
    assert weight.shape == (4, 8 // group, *kernel)
    size = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    full = np.zeros((2, 8, *size))
    for n, c, i, j in np.ndindex(*x.shape):
        first = c // (4 // group) * (8 // group)
        for o, u, v in np.ndindex(*weight.shape[1:]):
            place = i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]
            full[(n, first + o, *place)] += x[n, c, i, j] * weight[c, o, u, v]
    expected = full[:, :, pad[0] : size[0] - pad[0], pad[1] : size[1] - pad[1]] + bias[:, None, None]
    np.testing.assert_allclose(net.blobs["y0"].data, expected, rtol=1e-4, atol=1e-5)


def test_deconvolution_of_the_first_axes(make_layer: MakeLayer) -> None:
    """With axis 2 the first two axes are a batch."""
    x = random(2, 3, 4, 5, 6)
    net = make_layer("Deconvolution", [x], f"convolution_param {{ num_output: 2 kernel_size: 2 axis: 2 {FILL} }}")
    flat = make_layer(
        "Deconvolution", [x.reshape(6, 4, 5, 6)], f"convolution_param {{ num_output: 2 kernel_size: 2 {FILL} }}"
    )
    for mine, theirs in zip(net.params["L"], flat.params["L"], strict=True):
        theirs.data[...] = mine.data
    net.forward()
    flat.forward()
    assert net.blobs["y0"].shape == (2, 3, 2, 6, 7)
    np.testing.assert_allclose(net.blobs["y0"].data.reshape(6, 2, 6, 7), flat.blobs["y0"].data, rtol=1e-5)


def test_bilinear_upsampling_keeps_a_slope(make_layer: MakeLayer) -> None:
    """The classic use: a bilinear kernel of 4 with stride 2 and pad 1 doubles a picture."""
    x = np.tile(np.arange(5, dtype=np.float32), (1, 1, 5, 1))
    text = "num_output: 1 kernel_size: 4 stride: 2 pad: 1 bias_term: false"
    net = make_layer("Deconvolution", [x], f'convolution_param {{ {text} weight_filler {{ type: "bilinear" }} }}')
    net.forward()
    np.testing.assert_allclose(net.blobs["y0"].data[0, 0, 4, 1:9], np.arange(8) * 0.5 + 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "text", "kernel", "stride", "pad", "dilation"),
    [
        ((2, 3, 7, 6), "kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), (1, 1)),
        ((2, 3, 7, 6), "kernel_h: 2 kernel_w: 3 pad_h: 1 pad_w: 0", (2, 3), (1, 1), (1, 0), (1, 1)),
        ((1, 2, 7, 6), "kernel_size: 2 dilation: 3 force_nd_im2col: true", (2, 2), (1, 1), (0, 0), (3, 3)),
        ((2, 3, 8), "kernel_size: 3 stride: 2 pad: 2", (3,), (2,), (2,), (1,)),
        ((1, 2, 4, 3, 5), "kernel_size: 2 stride: 1 stride: 1 stride: 2", (2, 2, 2), (1, 1, 2), (0, 0, 0), (1, 1, 1)),
        ((1, 2, 3, 6), "kernel_size: 2 dilation: 3 stride: 2", (2, 2), (2, 2), (0, 0), (3, 3)),
    ],
)
def test_im2col(
    make_layer: MakeLayer, shape: Shape, text: str, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape
) -> None:
    x = random(*shape)
    net = make_layer("Im2col", [x], f"convolution_param {{ {text} }}")
    net.forward()
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p + BEYOND) for p in pad)])
    sizes = [
        window_count(n, k, s, p, d) for n, k, s, p, d in zip(shape[2:], kernel, stride, pad, dilation, strict=True)
    ]
    expected = np.zeros((shape[0], shape[1] * math.prod(kernel), *sizes), np.float32)
    for n, c in np.ndindex(*shape[:2]):
        for row, offset in enumerate(np.ndindex(*kernel)):
            for place in np.ndindex(*sizes):
                at = [w * s + k * d for w, s, k, d in zip(place, stride, offset, dilation, strict=True)]
                expected[(n, c * math.prod(kernel) + row, *place)] = padded[(n, c, *at)]
    np.testing.assert_array_equal(net.blobs["y0"].data, expected)


def spp(x: np.ndarray, height: int, method: str) -> np.ndarray:
    """Pyramid by loops: windows of ceil(size / bins), half of the excess, rounded up, as padding before."""
    columns = []
    for level in range(height):
        bins = 2**level
        kernel = [math.ceil(n / bins) for n in x.shape[2:]]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:], strict=True)]
        for n_c in np.ndindex(x.shape[1]):
            for i, j in np.ndindex(bins, bins):
                window, area = x[:, n_c[0]], 1
                for axis, place in enumerate((i, j)):
                    start = place * kernel[axis] - pad[axis]
                    end = min(start + kernel[axis], x.shape[2 + axis] + pad[axis])
                    area *= end - start
                    window = np.take(window, range(max(start, 0), min(end, x.shape[2 + axis])), 1 + axis)
                columns.append(window.max((1, 2)) if method == "MAX" else window.sum((1, 2)) / area)
    return np.stack(columns, 1)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("shape", "height"), [((2, 3, 9, 9), 3), ((2, 2, 8, 11), 3), ((3, 2, 15, 31), 4), ((2, 2, 7, 5), 2)]
)
def test_spp(make_layer: MakeLayer, shape: Shape, height: int, method: str) -> None:
    x = random(*shape)
    net = make_layer("SPP", [x], f"spp_param {{ pyramid_height: {height} pool: {method} }}")
    net.forward()
    np.testing.assert_allclose(net.blobs["y0"].data, spp(x, height, method), rtol=1e-5, atol=1e-6)


def test_spp_of_one_level_stays_a_picture(make_layer: MakeLayer) -> None:
    x = random(2, 3, 4, 5)
    net = make_layer("SPP", [x], "spp_param { pyramid_height: 1 }")
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x.max((2, 3), keepdims=True))


def test_spp_follows_a_new_size(make_layer: MakeLayer) -> None:
    x = random(2, 3, 12, 10)
    net = make_layer("SPP", [x[:, :, :8, :8]], "spp_param { pyramid_height: 3 }")
    net.blobs["x0"].reshape(*x.shape)
    net.blobs["x0"].data[...] = x
    net.forward()
    np.testing.assert_allclose(net.blobs["y0"].data, spp(x, 3, "MAX"), rtol=1e-6)


def test_spp_chooses_at_random_from_each_window(make_layer: MakeLayer) -> None:
    x = np.abs(random(1, 2, 8, 8))
    net = make_layer("SPP", [x], "spp_param { pyramid_height: 2 pool: STOCHASTIC }", phase=caffe.TRAIN)
    net.forward()
    assert np.isin(net.blobs["y0"].data, x).all()


def test_spp_refuses_cells_that_hold_only_padding(make_layer: MakeLayer) -> None:
    with pytest.raises(caffe.CaffeError, match=r"pad_h_ < kernel_h_ \(2 vs\. 2\)"):
        make_layer("SPP", [random(1, 1, 5, 8)], "spp_param { pyramid_height: 3 }")
    with pytest.raises(caffe.CaffeError, match="pyramid_height"):
        make_layer("SPP", [random(1, 1, 5, 8)])
    with pytest.raises(caffe.CaffeError, match="Input must have 4 axes"):
        make_layer("SPP", [random(1, 5, 8)], "spp_param { pyramid_height: 1 }")


@pytest.mark.parametrize(
    ("shape", "reference", "text", "window"),
    [
        ((2, 3, 7, 8), (2, 3, 4, 5), "", np.s_[:, :, 0:4, 0:5]),
        ((2, 3, 7, 8), (1, 1, 4, 5), "offset: 2 offset: 3", np.s_[:, :, 2:6, 3:8]),
        ((2, 3, 7, 8), (1, 2, 4, 5), "axis: 1 offset: 1", np.s_[:, 1:3, 1:5, 1:6]),
        ((2, 3, 7, 8), (9, 9, 9, 2), "axis: -1 offset: 6", np.s_[..., 6:8]),
        ((4, 5), (2, 3), "axis: 0 offset: 2 offset: 0", np.s_[2:4, 0:3]),
    ],
)
def test_crop(make_layer: MakeLayer, shape: Shape, reference: Shape, text: str, window: tuple) -> None:
    x = random(*shape)
    net = make_layer("Crop", [x, np.zeros(reference)], f"crop_param {{ {text} }}")
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x[window])


@pytest.mark.parametrize(
    ("reference", "text", "message"),
    [
        ((2, 3, 6, 4), "offset: 2", r"the crop for dimension 2 is out-of-bounds with size 6 and offset 2"),
        ((2, 3, 4, 4), "offset: 1 offset: 1 offset: 1", "number of offset values specified must be equal"),
        ((2, 3, 4), "", "needs the 4 axes"),
        ((2, 3, 4, 4), "axis: 4", "out of range"),
    ],
)
def test_crop_refuses(make_layer: MakeLayer, reference: Shape, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("Crop", [random(2, 3, 7, 8), np.zeros(reference)], f"crop_param {{ {text} }}")
