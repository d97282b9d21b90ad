"""VGG-16 and ResNet-50, written with NetSpec, against OpenCV's importer: every kind of layer they have, at depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe import params as P


def vgg16() -> caffe.NetSpec:
    """VGG-16, as published but for its 102 outputs."""
    n = caffe.NetSpec()
    top = n.data = L.Input(shape={"dim": [1, 3, 224, 224]})
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, depth + 1):
            top = n[f"conv{block}_{i}"] = L.Convolution(top, num_output=width, kernel_size=3, pad=1)
            top = n[f"relu{block}_{i}"] = L.ReLU(top, in_place=True)
        top = n[f"pool{block}"] = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for name in ("fc6", "fc7"):
        top = n[name] = L.InnerProduct(top, num_output=4096)
        top = n[f"relu{name[2]}"] = L.ReLU(top, in_place=True)
        top = n[f"drop{name[2]}"] = L.Dropout(top, in_place=True)
    n.fc8 = L.InnerProduct(top, num_output=102)
    n.prob = L.Softmax(n.fc8)
    return n


def normalized(n: caffe.NetSpec, name: str, bottom: caffe.net_spec.Top, relu: bool, **conv: int) -> caffe.net_spec.Top:
    """Convolution, BatchNorm and Scale, named as in the published file."""
    stem = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    n[name] = L.Convolution(bottom, bias_term=name == "conv1", **conv)
    n[f"bn{stem}"] = L.BatchNorm(n[name], in_place=True)
    top = n[f"scale{stem}"] = L.Scale(n[f"bn{stem}"], bias_term=True, in_place=True)
    if relu:
        top = n[f"{name}_relu"] = L.ReLU(top, in_place=True)
    return top


def resnet50() -> caffe.NetSpec:
    """ResNet-50 as published: the stride on the first 1x1 convolution, the first pooling without a pad."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 224, 224]})
    top = normalized(n, "conv1", n.data, True, num_output=64, kernel_size=7, pad=3, stride=2)
    top = n.pool1 = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
        for block in range(depth):
            name, stride = f"res{stage}{'abcdef'[block]}", 2 if stage > 2 and block == 0 else 1
            side = top
            if block == 0:
                side = normalized(n, f"{name}_branch1", top, False, num_output=4 * width, kernel_size=1, stride=stride)
            path = normalized(n, f"{name}_branch2a", top, True, num_output=width, kernel_size=1, stride=stride)
            path = normalized(n, f"{name}_branch2b", path, True, num_output=width, kernel_size=3, pad=1)
            path = normalized(n, f"{name}_branch2c", path, False, num_output=4 * width, kernel_size=1)
            n[name] = L.Eltwise(side, path)
            top = n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    n.pool5 = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.fc102 = L.InnerProduct(n.pool5, num_output=102)
    n.prob = L.Softmax(n.fc102)
    return n


def randomize(net: caffe.Net) -> None:
    """Weights that keep the values' size from layer to layer; statistics of a net that has been trained."""
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        if net.layer_dict[name].type == "BatchNorm":
            blobs[0].data[...] = rng.normal(size=blobs[0].shape)
            blobs[1].data[...] = rng.uniform(1, 3, blobs[1].shape)
            blobs[2].data[...] = 2
        elif net.layer_dict[name].type == "Scale":
            blobs[0].data[...] = rng.uniform(0.5, 1, blobs[0].shape)
            blobs[1].data[...] = rng.normal(size=blobs[1].shape) / 10
        else:
            blobs[0].data[...] = rng.normal(size=blobs[0].shape) * np.sqrt(2 * blobs[0].num / blobs[0].count)
            for bias in blobs[1:]:
                bias.data[...] = rng.normal(size=bias.shape) / 10


@pytest.mark.parametrize("make", [vgg16, resnet50])
def test_forward_equals_opencvs(make, tmp_path: Path) -> None:
    prototxt, weights = str(tmp_path / "deploy.prototxt"), str(tmp_path / "random.caffemodel")
    Path(prototxt).write_text(str(make().to_proto()))
    net = caffe.Net(prototxt, caffe.TEST)
    randomize(net)
    net.save(weights)
    picture = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    mine = net.forward(data=picture)["prob"].ravel()
    theirs = cv2.dnn.readNetFromCaffe(prototxt, weights)
    theirs.setInput(picture)
    expected = theirs.forward("prob").ravel()
    assert expected.max() > 2 * expected.min()  # the answer says something
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-7)
