"""Winograd's convolution beside PyTorch's in float64, and how much both lose to rounding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import caffe
from caffe import winograd
from caffe.onednn import THERE, Packed
from caffe.winograd import Winograd

pytestmark = pytest.mark.skipif(not (THERE and winograd.MEASURED), reason="not for this CPU")

GEOMETRY = (1, 1), (1, 1), (1, 1), 1


def make(inner: int, outer: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures [N, inner, H, W] that a ReLU has left, weights and bias."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(shape[0], inner, *shape[1:], generator=rng).relu().contiguous(memory_format=torch.channels_last)
    return x, torch.randn(outer, inner, 3, 3, generator=rng) / inner**0.5, torch.randn(outer, generator=rng)


def loss(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Root of the mean square of the errors, relative to that of the values."""
    return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("chunk", [2**24, 2**16, 1])
@pytest.mark.parametrize("pad", [(1, 1), (0, 2), (5, 0)])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 13, 22), (5, 33, 7), (2, 40, 3)], ids=str)
def test_any_shape_in_chunks_of_any_size(
    shape: tuple[int, ...], pad: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "CHUNK", chunk)
    x, weight, bias = make(8, 6, shape)
    for given in (bias, None):
        got = Winograd(weight, given, pad, x.shape)(x)
        expected = F.conv2d(x.double(), weight.double(), None if given is None else given.double(), padding=pad)
        assert got.shape == expected.shape
        assert got.is_contiguous(memory_format=torch.channels_last)
        assert loss(got, expected) < 1e-6


@pytest.mark.parametrize("channels", [128, 512])
def test_about_twice_as_much_is_lost_as_without(channels: int) -> None:
    """With the usual points, 0, ±1 and ±2, it would be three to five times as much."""
    x, weight, bias = make(channels, channels, (1, 16, 16))
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    plain = loss(Packed(weight, bias, GEOMETRY, x.shape)(x), expected)
    assert loss(Winograd(weight, bias, (1, 1), x.shape)(x), expected) < 2.5 * plain


@pytest.mark.parametrize(
    ("weight", "geometry", "shape", "pays"),
    [
        ((256, 256, 3, 3), GEOMETRY, (1, 256, 56, 56), True),
        ((256, 128, 3, 3), GEOMETRY, (1, 128, 21, 21), True),
        ((256, 256, 3, 3), GEOMETRY, (64, 256, 14, 14), False),  # the weights are larger than the pictures
        ((256, 64, 3, 3), GEOMETRY, (1, 64, 56, 56), False),  # the transforms take longer than the products
        ((256, 256, 5, 5), GEOMETRY, (1, 256, 56, 56), False),
        ((256, 256, 3, 3), ((1, 1), (2, 2), (1, 1), 1), (1, 256, 56, 56), False),
        ((256, 256, 3, 3), ((2, 2), (1, 1), (2, 2), 1), (1, 256, 56, 56), False),
        ((512, 256, 3, 3), ((1, 1), (1, 1), (1, 1), 2), (1, 512, 56, 56), False),
    ],
)
def test_where_it_is_used(weight: tuple[int, ...], geometry: tuple, shape: tuple[int, ...], pays: bool) -> None:
    assert Winograd.pays(torch.Size(weight), geometry, torch.Size(shape)) is pays


def test_a_net_says_what_opencv_says(tmp_path: Path, on_cpu: None) -> None:
    """OpenCV's own Winograd is left out."""
    text = """input: "data" input_shape { dim: 3 dim: 160 dim: 23 dim: 30 }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param { num_output: 176 kernel_size: 3 pad: 1 } }
    layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }"""
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    rng = np.random.default_rng(0)
    for blob in (*net.params["conv"], net.params["scale"][1]):
        blob.data[...] = rng.standard_normal(blob.shape) / blob.shape[-1]
    net.params["scale"][0].data[...] = rng.uniform(0.5, 2, 176)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    net.save(str(tmp_path / "net.caffemodel"))
    peer = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    peer.enableWinograd(False)
    peer.setInput(net.blobs["data"].data)
    assert loss(*map(torch.from_numpy, (net.forward()["conv"], peer.forward()))) < 3e-6
    assert isinstance(net.layer_dict["conv"]._packed._ready, Winograd)
