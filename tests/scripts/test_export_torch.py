"""export_torch.py: torch.nn's own layers, given the exported arrays, compute what the net computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

import caffe
from oxford102.errors import ToolError
from oxford102.to_torch import export

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 group: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "PReLU" bottom: "scale" top: "relu" }
layer { name: "fc" type: "InnerProduct" bottom: "relu" top: "fc"
        inner_product_param { num_output: 5 transpose: true weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A net with random weights, statistics and factors."""
    deploy, model = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    deploy.write_text(NET)
    net = caffe.Net(str(deploy), caffe.TEST)
    random = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.uniform(0.5, 2, blob.data.shape)
    net.save(str(model))
    return deploy, model


def test_torch_computes_the_same(files: tuple[Path, Path], tmp_path: Path) -> None:
    deploy, model = files
    export(deploy, model, tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        w = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
        assert file.metadata()["prototxt"] == NET
    x = np.random.default_rng(1).normal(size=(2, 3, 9, 9)).astype(np.float32)
    y = functional.conv2d(torch.from_numpy(x), w["conv.weight"], w["conv.bias"], stride=2)
    y = functional.batch_norm(y, w["bn.running_mean"], w["bn.running_var"], w["scale.weight"], w["scale.bias"])
    y = functional.prelu(y, w["relu.weight"])
    y = functional.linear(y.flatten(1), w["fc.weight"], w["fc.bias"])
    net = caffe.Net(str(deploy), caffe.TEST, weights=str(model))
    np.testing.assert_allclose(net.forward(data=x)["fc"], y.numpy(), rtol=1e-4, atol=1e-4)


def test_mistakes(files: tuple[Path, Path], tmp_path: Path) -> None:
    deploy, model = files
    output = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        export(deploy, tmp_path / "none.caffemodel", output)
    with pytest.raises(ToolError, match="there is no folder"):
        export(deploy, model, tmp_path / "none" / "x")
    deploy.write_text(NET.replace('"fc"', '"fd"').replace('weight_filler { type: "xavier" }', ""))
    with pytest.raises(ToolError, match="fd"):
        export(deploy, model, output)
    model.write_bytes(b"<html>")
    with pytest.raises(ToolError, match="a web page, not the file itself"):
        export(deploy, model, output)
    assert not output.exists()
