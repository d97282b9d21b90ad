"""Split layers, against the log of BVLC Caffe 1.0 and hand-drawn graphs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffe.errors import NetError
from caffe.graph.rules import filter_net
from caffe.graph.splits import insert_splits
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from caffe.proto.text import parse, read_net, to_text

EDGE = re.compile(r"net\.cpp:(?:382|408|369)\] (\S+) (<-|->) (\S+)")


def logged_edges(log: str) -> list[list[tuple[str, ...]]]:
    """Per net of the log, its edges (layer, arrow, blob) in order."""
    nets = log.split("Initializing net from parameters:")[1:]
    return [EDGE.findall(net) for net in nets]


def edges(net: NetParameter) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for layer in net.layer:
        found += [(layer.name, "<-", blob) for blob in layer.bottom]
        found += [(layer.name, "->", blob) for blob in layer.top]
    return found


def test_names_and_order_as_in_caffes_log(golden: Path) -> None:
    recorded = logged_edges((golden / "logs" / "train.log").read_text())
    for phase, expected in zip((TRAIN, TEST), recorded, strict=True):
        net = read_net(str(golden / "logs" / "net.prototxt"))
        net.state.phase = phase
        assert edges(insert_splits(filter_net(net))) == expected
    assert any("_split" in edge[0] for edge in recorded[1])


def split(text: str) -> NetParameter:
    net = parse(text, NetParameter(), "net")
    before = to_text(net)
    result = insert_splits(net)
    assert to_text(net) == before
    return result


def test_chain_needs_none() -> None:
    text = """
        name: "n"
        layer { name: "a" top: "x" }
        layer { name: "b" bottom: "x" top: "x" }
        layer { name: "c" bottom: "x" }
    """
    assert split(text) == parse(text, NetParameter(), "net")


def test_each_version_of_an_in_place_blob_is_split_on_its_own() -> None:
    result = split("""
        layer { name: "conv" top: "x" }
        layer { name: "relu" bottom: "x" top: "x" }
        layer { name: "left" bottom: "x" top: "l" }
        layer { name: "right" bottom: "x" top: "r" }
        layer { name: "sum" bottom: "l" bottom: "r" bottom: "l" top: "s" }
    """)
    assert edges(result) == [
        ("conv", "->", "x"),
        ("relu", "<-", "x"),
        ("relu", "->", "x"),
        ("x_relu_0_split", "<-", "x"),
        ("x_relu_0_split", "->", "x_relu_0_split_0"),
        ("x_relu_0_split", "->", "x_relu_0_split_1"),
        ("left", "<-", "x_relu_0_split_0"),
        ("left", "->", "l"),
        ("l_left_0_split", "<-", "l"),
        ("l_left_0_split", "->", "l_left_0_split_0"),
        ("l_left_0_split", "->", "l_left_0_split_1"),
        ("right", "<-", "x_relu_0_split_1"),
        ("right", "->", "r"),
        ("sum", "<-", "l_left_0_split_0"),
        ("sum", "<-", "r"),
        ("sum", "<-", "l_left_0_split_1"),
        ("sum", "->", "s"),
    ]
    assert {layer.type for layer in result.layer if "split" in layer.name} == {"Split"}


def test_loss_weight_moves_to_the_split() -> None:
    """A weighted top that is read elsewhere is split; the first copy bears the weight, readers get the others.

    The layer loses all its weights, also that of a top that is not split: so it was in BVLC Caffe.
    """
    result = split("""
        layer { name: "d" top: "x" top: "y" }
        layer { name: "loss" bottom: "x" bottom: "y" top: "e" top: "f" loss_weight: 0.5 loss_weight: 2 }
        layer { name: "more" bottom: "f" top: "g" }
        layer { name: "most" bottom: "f" top: "h" loss_weight: 3 }
    """)
    layers = {layer.name: layer for layer in result.layer}
    assert list(layers) == ["d", "loss", "f_loss_1_split", "more", "most"]
    assert list(layers["loss"].loss_weight) == []
    assert list(layers["f_loss_1_split"].loss_weight) == [2, 0, 0]
    assert list(layers["f_loss_1_split"].top) == [f"f_loss_1_split_{k}" for k in range(3)]
    assert list(layers["more"].bottom) == ["f_loss_1_split_1"]
    assert list(layers["most"].bottom) == ["f_loss_1_split_2"]
    assert list(layers["most"].loss_weight) == [3]


def test_zero_loss_weight_is_no_reader() -> None:
    text = 'layer { name: "a" top: "x" loss_weight: 0 } layer { name: "b" bottom: "x" }'
    assert split(text) == parse(text, NetParameter(), "net")


def test_unknown_bottom() -> None:
    with pytest.raises(NetError) as caught:
        split('layer { name: "d" top: "conv1" } layer { name: "a" bottom: "conv1" bottom: "conv_1" }')
    said = str(caught.value)
    assert said.startswith("Unknown bottom blob 'conv_1' (layer 'a', bottom index 1)")
    assert "conv1" in said.partition("Blobs there: ")[2]
    with pytest.raises(NetError, match=r"Unknown bottom blob 'z' \(layer 'a', bottom index 0\)"):
        split('layer { name: "a" bottom: "z" }')
