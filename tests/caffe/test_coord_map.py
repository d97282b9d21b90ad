"""Maps between blobs: against where the values of a net come from, and against arithmetic by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe.coord_map import AxisMismatchException, UndefinedMapException, coord_map, coord_map_from_to, crop


def net(dims: tuple[int, ...] = (2, 1, 20, 20)) -> caffe.NetSpec:
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": dims})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=5, stride=1, pad=0)
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2, pad=0)
    n.relu = L.ReLU(n.pool)
    n.deconv = L.Deconvolution(n.relu, convolution_param={"num_output": 10, "kernel_size": 4, "stride": 2, "pad": 0})
    return n


def test_window_by_window() -> None:
    """Conv 5 shifts by 2; pool 2/2 halves and shifts by 1/2; deconv 4/2 doubles and shifts by 3/2."""
    n = net()
    assert coord_map_from_to(n.deconv, n.data) == (1, 1.0, 1.0)
    assert coord_map_from_to(n.pool, n.conv) == (1, 2.0, 0.5)
    assert coord_map_from_to(n.data, n.pool) == (1, 0.5, -1.25)
    axis, a, b = coord_map_from_to(n.relu, n.pool)
    assert (axis, a, b) == (None, 1, 0)


def test_padding_shifts() -> None:
    n = net()
    _, a, b = coord_map_from_to(n.deconv, n.data)
    padded = caffe.NetSpec()
    padded.data = L.Input(shape={"dim": (2, 1, 20, 20)})
    padded.conv = L.Convolution(padded.data, num_output=10, kernel_size=5, pad=3)
    padded.pool = L.Pooling(padded.conv, kernel_size=2, stride=2)
    padded.deconv = L.Deconvolution(padded.pool, num_output=10, kernel_size=4, stride=2, pad=0)
    _, a_padded, b_padded = coord_map_from_to(padded.deconv, padded.data)
    assert a == a_padded
    assert b - 3 == b_padded


def test_dilation_and_several_axes() -> None:
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": (1, 2, 3, 30, 40, 50)})
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=[3, 5, 7], dilation=[1, 2, 1], stride=[1, 2, 4], axis=2)
    axis, a, b = coord_map_from_to(n.conv, n.data)
    assert axis == 2
    assert np.array_equal(a, [1, 2, 4])
    assert np.array_equal(b, [1, 4, 3])


def test_a_crop_lies_upon_its_target(tmp_path: Path) -> None:
    """A value that went through a 1x1-like path is found at its own place after the crop."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": (1, 1, 9, 9)})
    one = {"type": "constant", "value": 1}
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3, pad=4, weight_filler=one)
    n.crop = crop(n.conv, n.data)
    assert caffe.to_proto(n.crop).layer[-1].crop_param.offset == [3]
    assert caffe.to_proto(n.crop).layer[-1].crop_param.axis == 2
    path = tmp_path / "net.prototxt"
    path.write_text(str(n.to_proto()))
    runner = caffe.Net(str(path), caffe.TEST)
    runner.blobs["data"].data[0, 0, 4, 6] = 1
    blurred = runner.forward()["crop"][0, 0]
    assert blurred.shape == (9, 9)
    rows, columns = np.nonzero(blurred)
    assert (rows.mean(), columns.mean()) == (4, 6)
    assert coord_map_from_to(n.crop, n.data) == (1, 1, 0)


def test_crop_follows_only_its_first_bottom() -> None:
    n = net()
    other = L.Input(shape={"dim": (2, 1, 20, 20)})
    n.crop = L.Crop(n.deconv, other, axis=2, offset=3)
    axis, a, b = coord_map_from_to(n.crop, n.deconv)
    assert (axis, a, b) == (1, 1, 3)
    with pytest.raises(RuntimeError, match="Could not compute map between tops"):
        coord_map_from_to(n.crop, other)


def test_what_cannot_be_mapped() -> None:
    n = net()
    n.ip = L.InnerProduct(n.pool, num_output=10)
    with pytest.raises(RuntimeError, match="Could not compute map between tops"):
        coord_map_from_to(n.ip, n.data)
    with pytest.raises(UndefinedMapException, match="InnerProduct has no map"):
        coord_map(n.ip.fn)
    with pytest.raises(AssertionError, match="scale mismatch on crop"):
        crop(n.pool, n.data)
    with pytest.raises(AssertionError, match="cannot crop negative offset"):
        crop(n.deconv, n.data)
    half = L.Convolution(n.data, num_output=1, kernel_size=4, pad=3)
    with pytest.raises(AssertionError, match="cannot crop noninteger offset"):
        crop(half, n.data)
    with pytest.raises(caffe.CaffeError, match="cannot be mapped from kernel_h, kernel_w"):
        coord_map(L.Convolution(n.data, kernel_h=3, kernel_w=3).fn)
    deep = L.Convolution(L.Convolution(n.data, kernel_size=3), kernel_size=3, axis=2)
    with pytest.raises(AxisMismatchException, match="after axis 2 in one layer and after 1 in another"):
        coord_map_from_to(deep, n.data)
