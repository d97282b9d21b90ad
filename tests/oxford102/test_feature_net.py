"""Where the nets of models/ are cut, and branches that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.feature_net import find_cut

MODELS = Path(__file__).resolve().parents[2] / "models"


def cut(net: caffe_pb2.NetParameter, upto: str | None = None) -> tuple[str, str]:
    counts = {layer.name: len(layer.param) for layer in net.layer}
    found = find_cut(net, Path("net.prototxt"), counts, upto)
    return found.blob, found.last


def model(name: str) -> caffe_pb2.NetParameter:
    return text_format.Parse((MODELS / name / "train_val.prototxt").read_text(), caffe_pb2.NetParameter())


@pytest.mark.parametrize(
    ("name", "blob", "last"),
    [
        ("CaffeNet-frozen", "pool5", "pool5"),
        ("VGG16-frozen", "pool5", "pool5"),
        ("SqueezeNet-frozen", "fire9/concat", "fire9/concat"),
    ],
)
def test_frozen_models(name: str, blob: str, last: str) -> None:
    assert cut(model(name)) == (blob, last)
    assert cut(model(name), blob) == (blob, last)


def test_in_place_relu_is_below() -> None:
    assert cut(model("CaffeNet-frozen"), "conv5") == ("conv5", "relu5")


def test_a_branch_cannot_be_cut() -> None:
    with pytest.raises(ToolError, match="'fire9/conv1x1_1' does not|'fire9/conv1x1_2' does not separate"):
        cut(model("SqueezeNet-frozen"), "fire9/conv1x1_2")
    assert cut(model("SqueezeNet-frozen"), "fire9/conv1x1_1") == ("fire9/conv1x1_1", "fire9/relu_conv1x1_1")


def test_a_model_that_learns_from_its_first_layer() -> None:
    with pytest.raises(ToolError, match=r"nothing before its first learning layer.* as CaffeNet-frozen"):
        cut(model("CaffeNet"))
    with pytest.raises(ToolError, match="'conv1' learns with lr_mult 1: cutting at 'pool5' would freeze it"):
        cut(model("CaffeNet"), "pool5")
    with pytest.raises(ToolError, match="'fc6' learns with lr_mult 1"):
        cut(model("CaffeNet-frozen"), "fc6")


def test_dropout_below_is_for_those_who_ask() -> None:
    net = model("CaffeNet-frozen")
    net.layer.insert(2, caffe_pb2.LayerParameter(name="early", type="Dropout", bottom=["data"], top=["data"]))
    with pytest.raises(ToolError, match="nothing before its first learning layer"):
        cut(net)
    assert cut(net, "pool5") == ("pool5", "pool5")
