"""bfloat16 and float16 in the place of float32: against numbers rounded by hand, and against a float32 net."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe import device
from caffe.errors import DeviceError

NET = """
layer { name: "in" type: "Input" top: "data" top: "label" input_param {
  shape { dim: 8 dim: 3 dim: 12 dim: 12 } shape { dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param {
  num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


both = pytest.mark.parametrize(("precision", "bits"), [("bf16", 8), ("fp16", 11)])


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    """Set the precision back."""
    yield
    device.set_precision("tf32")


def solver_of(
    folder: Path, precision: str, rule: str = "base_lr: 0.05 momentum: 0.9", net: str = NET
) -> caffe.SGDSolver:
    """One with the same random weights and pictures whatever the precision."""
    device.set_precision(precision)
    (folder / "net.prototxt").write_text(net)
    file = folder / "solver.prototxt"
    file.write_text(f'net: "{folder}/net.prototxt" {rule} lr_policy: "fixed" random_seed: 2 max_iter: 99')
    made = caffe.SGDSolver(str(file))
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 4
    made.net.blobs["data"].data[...] = rng.normal(size=(8, 3, 12, 12)) + labels[:, None, None, None]
    made.net.blobs["label"].data[...] = labels
    return made


@both
def test_an_inner_product_of_rounded_numbers(precision: str, bits: int, tmp_path: Path) -> None:
    net = solver_of(tmp_path, precision).net
    net.forward()
    kind = device.HALVES[precision]
    x, w = (torch.from_numpy(a).to(kind).double() for a in (net.blobs["pool"].data, net.params["ip"][0].data))
    np.testing.assert_allclose(net.blobs["ip"].data, x.flatten(1) @ w.t(), rtol=2**-bits, atol=2 ** -(bits + 2))


@both
def test_it_trains_as_float32(precision: str, bits: int, tmp_path: Path) -> None:
    exact, rounded = solver_of(tmp_path, "fp32"), solver_of(tmp_path, precision)
    losses = []
    for solver in exact, rounded:
        values = []
        for _ in range(30):
            solver.step(1)
            values.append(float(solver.net.blobs["loss"].data))
        losses.append(values)
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=25 * 2**-bits, atol=5 * 2**-bits)
    assert losses[1][-1] < losses[1][0] / 4


@pytest.mark.parametrize("rule", ["", "iter_size: 2", "clip_gradients: 1e-6"])
def test_small_gradients_are_not_lost_in_float16(rule: str, tmp_path: Path) -> None:
    """Many gradients here are below 6e-8, the smallest float16."""
    net = NET.replace('top: "loss"', 'top: "loss" loss_weight: 1e-5')
    exact, rounded = (solver_of(tmp_path, p, f"base_lr: 1e4 {rule}", net) for p in ("fp32", "fp16"))
    before = exact.net.params["conv"][0].data.copy()
    for solver in exact, rounded:
        solver.step(1)
    moved = [solver.net.params["conv"][0].data - before for solver in (exact, rounded)]
    assert np.abs(moved[0]).max() > 0
    np.testing.assert_allclose(moved[1], moved[0], rtol=0.05, atol=0.02 * np.abs(moved[0]).max())


@both
def test_what_is_seen_and_kept_is_float32(precision: str, bits: int, tmp_path: Path) -> None:
    solver = solver_of(tmp_path, precision)
    solver.step(1)
    assert solver.net.blobs["norm"].data_tensor().dtype == device.HALVES[precision]
    assert {blob.data.dtype for blob in solver.net.blobs.values()} == {np.dtype(np.float32)}
    solver.step(1)  # on memory that somebody looks at
    tensors = [t for p in solver.net.learnable for t in (p.blob.data_tensor(), p.blob.diff_tensor())]
    assert {t.dtype for t in [*tensors, *solver.history]} == {torch.float32}


def test_an_unknown_precision() -> None:
    with pytest.raises(DeviceError, match="-precision fp8: expected one of fp32, tf32, bf16, fp16"):
        device.set_precision("fp8")


def test_what_pytorch_says_of_its_settings_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users can do nothing about it."""
    told: list[str] = []

    def deprecated(precision: str) -> None:
        warnings.warn("use the new settings", UserWarning, stacklevel=2)
        told.append(precision)

    monkeypatch.setattr(torch, "set_float32_matmul_precision", deprecated)
    monkeypatch.setattr(device, "_gpu", True)
    for precision in device.PRECISIONS:
        device.set_precision(precision)
    assert told == ["highest", "high", "high", "high"]
