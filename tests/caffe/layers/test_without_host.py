"""Layers that a GPU can repeat by itself: all that do not say that they wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tape import Tape
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import caffe
from caffe import rng
from caffe.capture import capturing
from caffe.proto.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter, SolverParameter
from caffe.proto.text import read_net
from caffe.solvers.solver import make_solver

RECORDINGS = sorted((Path(__file__).parents[2] / "golden" / "layers").glob("*.npz"))
MODELS = Path(__file__).parents[3] / "models"
WAIT = {"BatchReindex", "DummyData", "Filter", "HDF5Data", "HDF5Output", "MemoryData", "Python"}


def recorded(path: Path, folder: Path) -> tuple[dict[str, np.ndarray], NetParameter]:
    recording = dict(np.load(path))
    (folder / "net.prototxt").write_text(str(recording["prototxt"]))
    param = read_net(str(folder / "net.prototxt"))
    param.state.phase = TRAIN if str(recording["phase"]) == "TRAIN" else TEST
    return recording, param


def feed(net: caffe.Net, recording: dict[str, np.ndarray], factor: float) -> bool:
    """Give the net what was recorded, gradients of its tops too, where there are some; the values times a factor."""
    for key, values in recording.items():
        kind, *name = key.split(":")
        whole = np.array_equal(values, np.round(values)) if values.dtype.kind == "f" else True
        given = torch.tensor(values * (1 if whole else factor)) if name else None
        if kind == "in":
            net.blobs[name[0]].data_tensor().copy_(given)
        elif kind == "w":
            net.params[name[0]][int(name[1])].data_tensor().copy_(given)
        elif kind == "dout":
            net.blobs[name[0]].diff_tensor().copy_(given)
    return any(key.startswith(("dout", "din", "dw")) for key in recording)


def persistent(net: caffe.Net) -> list[torch.Tensor]:
    """What a pass may change and the next one reads."""
    blobs = [blob.data_tensor() for row in net.params.values() for blob in row]
    return blobs + [carried for layer in net.layers for carried in layer.memory]


def run(net: caffe.Net, back: bool) -> list[torch.Tensor]:
    """Do a pass; give values and gradients of all blobs and parameters."""
    net.clear_param_diffs()
    net.run_forward()
    if back:
        net.run_backward()
    blobs = [*net.blobs.values(), *(blob for row in net.params.values() for blob in row)]
    return [blob.data_tensor() for blob in blobs] + [blob.diff_tensor() for blob in blobs if blob.has_diff]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_a_pass_can_be_repeated(path: Path, tmp_path: Path, on_cpu: None) -> None:
    recording, param = recorded(path, tmp_path)
    usual, net = caffe.Net.from_param(param), caffe.Net.from_param(param)
    if any(layer.waits for layer in net.layers):
        assert {layer.type for layer in net.layers if layer.waits} <= WAIT
        return
    back = feed(usual, recording, 1)
    rng.set_random_seed(3)
    expected = [values.clone() for values in run(usual, back)]
    feed(net, recording, 0.5)
    tape = Tape(lambda: persistent(net))
    with tape.capture(), capturing():
        found = run(net, back)
    feed(net, recording, 1)
    rng.set_random_seed(3)
    tape.replay()
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-5, atol=1e-6)


class Staying(TorchDispatchMode):
    """Refuses whatever makes, reads or writes tensors anywhere but on a device; numbers come from the host."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor) and x.dim()]
        assert all(x.device == self.device for x in tensors), f"{func} leaves the device"
        return out


@pytest.fixture
def on_device(elsewhere: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Refuse operations on tensors of different devices, and looks at values."""
    monkeypatch.setattr(rng, "generator", lambda device=None: None)  # this device has none
    with FakeTensorMode(), capturing():
        yield elsewhere


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_all_of_a_pass_is_on_the_device(path: Path, tmp_path: Path, on_device: torch.device) -> None:
    recording, param = recorded(path, tmp_path)
    if any(layer.waits for layer in caffe.Net.from_param(param).layers):
        return
    net = caffe.Net.from_param(param, on_device)
    back = any(key.startswith(("dout", "din", "dw")) for key in recording)
    with Staying(on_device):
        assert run(net, back)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
@pytest.mark.parametrize("model", ["CaffeNet", "VGG16", "ResNet50", "SqueezeNet"])
def test_all_of_an_iteration_is_on_the_device(
    model: str, kind: str, on_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    param = SolverParameter(type=kind, base_lr=0.1, lr_policy="fixed", weight_decay=0.1, iter_size=2, random_seed=1)
    param.net_param.CopyFrom(training_net(model))
    monkeypatch.setattr(caffe.device, "current", lambda: on_device)
    solver = make_solver(param)
    with Staying(on_device):
        solver.step(2)
    assert solver.iter == 2


def training_net(model: str) -> NetParameter:
    """The net of a model as it trains, its data from the caller."""
    net = read_net(str(MODELS / model / "train_val.prototxt"))
    layers = [layer for layer in net.layer if TEST not in [rule.phase for rule in layer.include]]
    side = layers[0].transform_param.crop_size
    data = LayerParameter(name="data", type="Input", top=["data", "label"])
    data.input_param.shape.add(dim=[2, 3, side, side])
    data.input_param.shape.add(dim=[2])
    del net.layer[:]
    net.layer.extend([data, *layers[1:]])
    return net
