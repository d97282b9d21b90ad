"""Weights that go from files and nets to a net's layers of the same names, and those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import WeightsError
from caffe.proto.caffe_pb2 import NetParameter

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
MakeNet = Callable[..., caffe.Net]


def fc(name: str, outputs: int = 4, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" inner_product_param '
        f'{{ num_output: {outputs} weight_filler {{ type: "gaussian" }} {more} }} }}\n'
    )


@pytest.fixture
def net_of(tmp_path: Path) -> MakeNet:
    def make(*layers: str) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(INPUT + "".join(layers))
        return caffe.Net(str(path), caffe.TEST)

    return make


def test_a_net_shares_what_the_other_has_and_says_what_it_lacks(net_of: MakeNet, capfd, monkeypatch) -> None:
    theirs, mine = net_of(fc("a"), fc("b"), fc("c")), net_of(fc("d"), fc("b"))
    own = mine.params["d"][0].data.copy()
    monkeypatch.setenv("GLOG_minloglevel", "0")
    mine.share_with(theirs)
    said = [line.split("] ")[1] for line in capfd.readouterr().err.splitlines() if "net.cpp:678" in line]
    assert said == ["Ignoring source layer a", "Ignoring source layer c"]
    for i in range(2):
        theirs.params["b"][i].data[...] = 7 + i
        assert (mine.params["b"][i].data == 7 + i).all()
        mine.params["b"][i].diff[...] = 1
        assert not theirs.params["b"][i].diff.any()
    np.testing.assert_array_equal(mine.params["d"][0].data, own)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (fc("a", 5), r"4 3 \(12\), 4 \(4\); target param shapes are 5 3 \(15\), 5 \(5\)"),
        (fc("a", 4, "bias_term: false"), r"4 3 \(12\), 4 \(4\); target param shapes are 4 3 \(12\)"),
        ('layer { name: "a" type: "ReLU" bottom: "x" top: "a" }', r"4 3 \(12\), 4 \(4\); target param shapes are none"),
    ],
)
def test_weights_of_another_shape_are_not_shared(net_of: MakeNet, layer: str, shapes: str) -> None:
    theirs = net_of(fc("a"))
    words = f"Cannot share param weights from layer 'a'; shape mismatch.  Source param shapes are {shapes}"
    with pytest.raises(WeightsError, match=words):
        net_of(layer).share_with(theirs)


def test_another_number_of_blobs_names_layer_and_cure(net_of: MakeNet, tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    net_of(fc("a", 4, "bias_term: false")).save(str(path))
    words = (
        r"w.caffemodel: Check failed: target_blobs.size\(\) == source_layer.blobs_size\(\) \(2 vs. 1\) "
        "Incompatible number of blobs for layer a. Rename the layer in the prototxt"
    )
    with pytest.raises(WeightsError, match=words):
        net_of(fc("a")).copy_from(str(path))


@pytest.mark.parametrize(
    ("old", "fits"), [((1, 1, 4, 3), True), ((1, 1, 3, 4), False), ((4, 3, 1, 1), False), ((1, 4, 1, 3), False)]
)
def test_four_axes_of_files_from_before_nd_blobs(
    net_of: MakeNet, tmp_path: Path, old: tuple[int, ...], fits: bool
) -> None:
    """Their last axes are the net's, and the axes before are 1 long."""
    values = np.arange(12, dtype=np.float32)
    message = NetParameter()
    layer = message.layer.add(name="a", type="InnerProduct")
    for shape, data in ((old, values), ((1, 1, 1, 4), values[:4])):
        blob = layer.blobs.add()
        blob.num, blob.channels, blob.height, blob.width = shape
        blob.data.extend(data)
    path = tmp_path / "old.caffemodel"
    path.write_bytes(message.SerializeToString())
    net = net_of(fc("a"))
    if fits:
        net.copy_from(str(path))
        np.testing.assert_array_equal(net.params["a"][0].data, values.reshape(4, 3))
        np.testing.assert_array_equal(net.params["a"][1].data, values[:4])
    else:
        with pytest.raises(WeightsError, match=f"Source param shape is {' '.join(map(str, old))} "):
            net.copy_from(str(path))


def test_a_loss_s_weight_is_in_the_file_as_bvlc_has_it(net_of: MakeNet, tmp_path: Path) -> None:
    label = 'layer { name: "y" type: "DummyData" top: "y" dummy_data_param { shape { dim: 2 } } }'
    losses = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "a" bottom: "y" top: "l" %s }'
    for more, expected in (("", [1]), ("loss_weight: 0.5", [0.5])):
        net_of(fc("a"), label, losses % more).save(str(tmp_path / "net.caffemodel"))
        saved = NetParameter.FromString((tmp_path / "net.caffemodel").read_bytes())
        assert list(saved.layer[-1].loss_weight) == expected
