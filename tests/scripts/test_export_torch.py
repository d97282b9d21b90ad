"""export_torch.py: torch.nn's own layers, given the exported arrays, compute what the net computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torch.nn import functional

import caffe
from oxford102.errors import ToolError
from oxford102.to_torch import export

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "PReLU" bottom: "scale" top: "relu" }
layer { name: "fc" type: "InnerProduct" bottom: "relu" top: "fc"
        inner_product_param { num_output: 5 transpose: true weight_filler { type: "xavier" } } }
"""
RARE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 4 dim: 2 dim: 2 } } }
layer { name: "factors" type: "Input" top: "factors" input_param { shape { dim: 2 } } }
layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "up" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" bottom: "factors" top: "scale" scale_param { bias_term: true } }
layer { name: "steps" type: "Input" top: "steps" top: "going"
        input_param { shape { dim: 4 dim: 3 dim: 2 } shape { dim: 4 dim: 3 } } }
layer { name: "rnn" type: "RNN" bottom: "steps" bottom: "going" top: "rnn"
        recurrent_param { num_output: 5 } }
"""
Run = Callable[..., CompletedProcess[str]]


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
    y = functional.conv2d(torch.from_numpy(x), w["conv.weight"], w["conv.bias"], stride=2, groups=3)
    y = functional.batch_norm(y, w["bn.running_mean"], w["bn.running_var"], w["scale.weight"], w["scale.bias"])
    y = functional.prelu(y, w["relu.weight"])
    y = functional.linear(y.flatten(1), w["fc.weight"], w["fc.bias"])
    net = caffe.Net(str(deploy), caffe.TEST, weights=str(model))
    np.testing.assert_allclose(net.forward(data=x)["fc"], y.numpy(), rtol=1e-4, atol=1e-4)


def test_blobs_come_back_but_for_batch_norm_s_factor(files: tuple[Path, Path], run: Run) -> None:
    deploy, model = files
    done = run("export_torch.py", deploy, model)
    assert (done.returncode, done.stderr) == (0, "")
    w = load_file(model.with_suffix(".safetensors"))
    assert (
        done.stdout == f"{model.with_suffix('.safetensors')}: 9 tensors, {sum(a.size for a in w.values()):,} numbers\n"
    )
    blobs = {
        name: [b.data for b in row]
        for name, row in caffe.Net(str(deploy), caffe.TEST, weights=str(model)).params.items()
    }
    assert list(blobs) == ["conv", "bn", "scale", "relu", "fc"]
    mean, variance, factor = blobs.pop("bn")
    np.testing.assert_allclose(w.pop("bn.running_mean") * factor, mean, rtol=1e-6)
    np.testing.assert_allclose(w.pop("bn.running_var") * factor, variance, rtol=1e-6)
    np.testing.assert_array_equal(w.pop("fc.weight").T, blobs["fc"].pop(0))
    np.testing.assert_array_equal(w.pop("fc.bias"), blobs["fc"].pop(0))
    for name, row in blobs.items():
        for part, array in zip(("weight", "bias"), row, strict=False):
            np.testing.assert_array_equal(w.pop(f"{name}.{part}"), array)
    assert not w


def test_rare_layers(tmp_path: Path) -> None:
    deploy, model, output = (tmp_path / name for name in ("deploy.prototxt", "net.caffemodel", "net.safetensors"))
    deploy.write_text(RARE)
    net = caffe.Net(str(deploy), caffe.TEST)
    for blobs in net.params.values():
        for i, blob in enumerate(blobs):
            blob.data[...] = 0 if blob.data.shape == (1,) else i + 1  # BatchNorm's factor is 0
    net.save(str(model))
    export(deploy, model, output)
    found = {key: (array.shape, array.flat[0]) for key, array in load_file(output).items()}
    assert found == {
        "up.weight": ((4, 2, 3, 3), 1),
        "up.bias": ((2,), 2),
        "bn.running_mean": ((2,), 0),
        "bn.running_var": ((2,), 0),
        "scale.bias": ((2,), 1),
        "rnn.blob0": ((5, 2), 1),
        "rnn.blob1": ((5,), 2),
        "rnn.blob2": ((5, 5), 3),
        "rnn.blob3": ((5, 5), 4),
        "rnn.blob4": ((5,), 5),
    }


def test_the_command_line(run: Run) -> None:
    assert run("export_torch.py", "deploy.prototxt").returncode == 2
    assert "BatchNorm2d(affine=False, eps=1e-5)" in run("export_torch.py", "--help").stdout
    done = run("export_torch.py", "deploy.prototxt", "none.caffemodel")
    assert (done.returncode, done.stderr) == (1, "export_torch.py: error: deploy.prototxt: No such file or directory\n")


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
