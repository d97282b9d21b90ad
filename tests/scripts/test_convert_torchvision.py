"""convert_torchvision.py: the converted net scores a picture as torchvision's, defined anew in plain torch.nn."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import numpy as np
import pytest
import torch

import caffe
from oxford102.catalog import MODELS
from oxford102.errors import ToolError
from oxford102.from_torchvision import MEAN, convert
from oxford102.weights import orders

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    """A module beside this one, which pytest does not put on the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nets = load("torchvision_nets")
Run = Callable[..., CompletedProcess[str]]


class Touch:
    """What a hostile file holds: it makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, int], int], tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


def wanted(model: str, models: Path) -> list[Path]:
    """The weights that bootstrap.py would fetch or verify for a model."""
    rows = [MODELS[model]] if model in MODELS else []
    return [
        order.want.target
        for order in orders(rows, [], models, models / "data")
        if order.want.target.parent.name == model
    ]


@pytest.mark.parametrize(
    ("kind", "model", "scores"), [("VGG16", "VGG16", "fc8"), ("ResNet50", "ResNet50-v1.5", "fc1000")]
)
def test_scores_are_torchvisions(kind: str, model: str, scores: str, tmp_path: Path) -> None:
    theirs = nets.random_net(getattr(nets, kind))
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = nets.scores(theirs, picture)
    del theirs
    convert(tmp_path / "net.pth", tmp_path / "net.caffemodel")
    (tmp_path / "net.pth").unlink()
    deploy = str(ROOT / "models" / model / "deploy_imagenet.prototxt")
    net = caffe.Net(deploy, caffe.TEST, weights=str(tmp_path / "net.caffemodel"))
    target = tmp_path / model / "pretrained-weights.caffemodel"
    target.parent.mkdir()
    (tmp_path / "net.caffemodel").rename(target)
    assert wanted(model, tmp_path) == []  # bootstrap.py leaves it as it is
    target.write_bytes(target.read_bytes()[200:])
    assert wanted(model, tmp_path) == ([] if model == "ResNet50-v1.5" else [target])
    target.unlink()
    mean = np.array([float(value) for value in MEAN.split(",")], np.float32)
    net.blobs["data"].reshape(1, 3, 224, 224)
    net.blobs["data"].data[0] = (picture[:, :, ::-1] - mean).transpose(2, 0, 1)
    net.forward()
    assert all(blobs[2].data == 1 for name, blobs in net.params.items() if net.layer_dict[name].type == "BatchNorm")
    mine = net.blobs[scores].data.ravel()
    assert expected.std() > 0.1
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_what_is_no_state_of_the_two(tmp_path: Path) -> None:
    path, output = tmp_path / "x.pth", tmp_path / "x.caffemodel"
    with torch.device("meta"):
        keys = list(nets.ResNet50().state_dict())
    small = {key: torch.zeros(1) for key in keys}
    for content, words in (
        ({"a": torch.zeros(1)}, "expected torchvision's vgg16 or resnet50; it holds 'a'"),
        ([1, 2], "expected a state_dict, tensors by name; it holds list"),
        ({"net": nets.MEAN}, "expected a state_dict"),
        ({"state_dict": small, "epoch": 3}, "expected a state_dict, tensors by name; it holds 'state_dict', 'epoch'"),
        ({0: torch.zeros(1)}, "expected a state_dict, tensors by name; it holds '0'"),
        ({k: v for k, v in small.items() if k != "fc.bias"}, "is not torchvision's resnet50: it has no 'fc.bias'"),
        (small | {"more": torch.zeros(1)}, "it has also 'more'"),
        (small, r"'conv1.weight' is \[1\] of torch.float32, expected \[64, 3, 7, 7\] of floats"),
        (nets.Bottleneck(4, 1, 1), "holds Python objects, which are not loaded"),
        ({"conv1.weight": Touch(tmp_path / "ran")}, "holds Python objects, which are not loaded"),
    ):
        sys.modules["torchvision_nets"] = nets  # so that its classes can be pickled
        torch.save(content, path)
        with pytest.raises(ToolError, match=words):
            convert(path, output)
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(ToolError, match="is not a whole PyTorch file|is not a PyTorch file"):
        convert(path, output)
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth", output)
    with pytest.raises(ToolError, match="there is no folder"):
        convert(path, tmp_path / "none" / "x.caffemodel")
    assert not output.exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"version https://git-lfs", pickle.dumps({"a": 1})])
def test_what_is_no_pytorch_file_is_told_in_one_line(content: bytes, run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    done = run("convert_torchvision.py", "net.pth", "-o", "out.caffemodel")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"convert_torchvision.py: error: net.pth is not a (whole )?PyTorch file; download it again\n", done.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_the_command_line(run: Run) -> None:
    assert run("convert_torchvision.py").returncode == 2
    told = run("convert_torchvision.py", "--help").stdout
    assert "python scripts/convert_torchvision.py resnet50.pth -o models/ResNet50-v1.5/pretrained-weights" in told
    assert MEAN.replace(",", ", ") in " ".join(told.split())
