"""Convolutions whose weights are kept ready: the numbers, whoever changes the weights, and however."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe.onednn import THERE

CONVOLUTION = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "x"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }'


def make(folder: Path, name: str = "net", text: str = CONVOLUTION + RELU) -> caffe.Net:
    """A net that needs no gradient, run once: a convolution of 1 x 1 with a ReLU, unless told otherwise."""
    path = folder / f"{name}.prototxt"
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }'
    path.write_text(data + text)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["data"].shape)
    net.forward()
    return net


def check(net: caffe.Net) -> None:
    """Compare a pass with plain numpy, twice: as the weights are when it begins, and packed by then."""
    for _ in range(2):
        got = net.forward()["x"].copy()
        weights, bias = (blob.data.astype(float) for blob in net.params["conv"])
        expected = np.einsum("oc,nchw->nohw", weights[:, :, 0, 0], net.blobs["data"].data) + bias[:, None, None]
        np.testing.assert_allclose(got, expected.clip(min=0), rtol=1e-5, atol=1e-5)


def random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def through_a_view(net: caffe.Net, folder: Path) -> None:
    net.params["conv"][0].data[...] = random((4, 3, 1, 1))


def from_a_file(net: caffe.Net, folder: Path) -> None:
    other = make(folder, "other")
    other.save(str(folder / "other.caffemodel"))
    net.copy_from(str(folder / "other.caffemodel"))


def in_torch(net: caffe.Net, folder: Path) -> None:
    with torch.no_grad():
        net.params["conv"][0].data_tensor().mul_(-2)


def by_sharing(net: caffe.Net, folder: Path) -> None:
    net.share_with(make(folder, "other"))


def by_clearing(net: caffe.Net, folder: Path) -> None:
    net.params["conv"][0]._data.clear()


def by_adopting(net: caffe.Net, folder: Path) -> None:
    net.params["conv"][0].set_data(torch.from_numpy(random((4, 3, 1, 1))))


@pytest.mark.parametrize("change", [through_a_view, from_a_file, in_torch, by_sharing, by_clearing, by_adopting])
def test_changed_weights_are_seen(change: Callable[[caffe.Net, Path], None], tmp_path: Path) -> None:
    net = make(tmp_path)
    check(net)
    change(net, tmp_path)
    check(net)


def test_what_is_written_to_a_view_that_was_kept_is_seen(tmp_path: Path) -> None:
    net = make(tmp_path)
    row = net.params["conv"][0].data[1]  # a view of the view
    for factor in (2, -3):
        net.forward()
        row *= factor
        check(net)


def test_another_shape_of_bottom_is_packed_for(tmp_path: Path) -> None:
    net = make(tmp_path)
    for shape in ((1, 3, 2, 2), (2, 3, 5, 4)):
        net.blobs["data"].reshape(*shape)
        net.blobs["data"].data[...] = random(shape)
        check(net)


@pytest.mark.skipif(not THERE, reason="this PyTorch is without")
def test_weights_are_packed_once(tmp_path: Path, on_cpu: None) -> None:
    net = make(tmp_path)

    def packed() -> object:
        net.forward()
        return net.layer_dict["conv"]._packed._ready

    net.params["conv"][0].data[...] = 1
    first = packed()
    assert packed() is first
    held = net.params["conv"][0].data
    assert packed() is first, "nothing is packed that somebody may change"
    del held
    assert packed() is not first


AFTER = """
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true } }
"""


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("relu", ["", RELU])
def test_what_follows_is_folded_in(relu: str, bias: str, tmp_path: Path) -> None:
    conv = CONVOLUTION.replace("num_output", f"bias_term: {bias} num_output")
    net, rng = make(tmp_path, text=conv + AFTER + relu), np.random.default_rng(3)
    for layer in ("bn", "scale", "conv", "bn"):  # each in its turn is the one whose numbers change
        for blob in net.params[layer]:
            blob.data[...] = rng.uniform(0.5, 2, blob.shape)
        got = net.forward()["x"]
        weights, *offset = (blob.data.astype(float) for blob in net.params["conv"])
        mean, variance, count = (blob.data.astype(float) for blob in net.params["bn"])
        scale, shift = (blob.data[:, None, None].astype(float) for blob in net.params["scale"])
        y = np.einsum("oc,nchw->nohw", weights[:, :, 0, 0], net.blobs["data"].data)
        y += offset[0][:, None, None] if offset else 0
        y = (y - (mean / count)[:, None, None]) / np.sqrt((variance / count)[:, None, None] + 1e-5) * scale + shift
        np.testing.assert_allclose(got, y.clip(min=0) if relu else y, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_so(tmp_path: Path) -> None:
    net = make(tmp_path)
    net.params["conv"][0].data[1] = np.nan
    assert np.isnan(net.forward()["x"][:, 1]).all()


def test_no_pictures_at_all(tmp_path: Path) -> None:
    net = make(tmp_path)
    net.blobs["data"].reshape(0, 3, 5, 4)
    assert net.forward()["x"].shape == (0, 4, 5, 4)
